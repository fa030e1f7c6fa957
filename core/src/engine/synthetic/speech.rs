//! Speech: nobody's voice, but each letter has its tone, vowels ring longer than consonants, and a space is a
//! pause.

use alloc::vec::Vec;

use super::{
    bytes, refused,
    seed::{Choices, Seed, wave},
};
use crate::{
    engine::{EngineError, Output},
    wire::{Finite, task::AudioTtsTask},
};

/// Samples a second.
const RATE: u32 = 22_050;
/// A character's length at natural pace, in seconds.
const CHARACTER: f64 = 0.06;
/// The shortest and the longest speech, in seconds.
const LENGTHS: (f64, f64) = (0.3, 600.0);
/// Paces that can be asked for; 1 is natural.
const SPEEDS: (f64, f64) = (0.1, 10.0);
/// A pentatonic scale, in parts of its first tone: whatever is played on it sounds well.
const SCALE: [f64; 5] = [1.0, 1.125, 1.25, 1.5, 1.667];

pub(super) fn speak(task: &AudioTtsTask, seed: &Seed) -> Result<Output, EngineError> {
    let pace = task.speed.map_or(1.0, Finite::get);
    if !(SPEEDS.0..=SPEEDS.1).contains(&pace) {
        return Err(refused("speed", format_args!("{pace} is not within {} to {}", SPEEDS.0, SPEEDS.1)));
    }
    let characters = task.text.chars().count();
    let most = LENGTHS.1 * pace / CHARACTER;
    let spoken = f64::from(u32::try_from(characters).unwrap_or(u32::MAX));
    if spoken > most {
        let problem = format_args!("{characters} characters are more than 10 minutes can hold");
        return Err(refused("text", problem));
    }
    let samples = samples(LENGTHS.0.max(spoken * CHARACTER / pace));
    Ok(bytes("wav", wav(&sing(&task.text, samples, seed.choices()))))
}

/// `text` in so many samples.
fn sing(text: &str, samples: u32, mut choices: Choices) -> Vec<i16> {
    let root = choices.number(110.0, 220.0);
    let melody: [usize; 16] = core::array::from_fn(|_| choices.whole(0, 4) as usize);
    let ring = timbre();
    let mut track = Vec::with_capacity(samples as usize);
    let letters = text.chars().count().max(1) as u64;
    let mut phase = 0_u32;
    let spoken = text.chars().chain(text.is_empty().then_some('o'));
    for (at, letter) in (0_u64..).zip(spoken) {
        let starts = |at: u64| u32::try_from(at * u64::from(samples) / letters).unwrap_or(samples);
        let length = starts(at + 1) - starts(at);
        let Voice { loudness, fades } = Voice::of(letter);
        let note = (letter as usize).wrapping_add(melody[usize::try_from(at % 16).unwrap_or(0)]);
        let octave = if (note / SCALE.len()).is_multiple_of(2) { 1.0 } else { 2.0 };
        let step = turns(root * octave * SCALE[note % SCALE.len()] / f64::from(RATE));
        let attack = (length / 8).max(1);
        for now in 0..length {
            // Fades in, so that it doesn't click, and out, as much as the letter wants.
            let rise = i64::from(now.min(attack)) * 256 / i64::from(attack);
            let fall = 256 - fades * i64::from(now) / i64::from(length);
            let sample = i64::from(ring[(phase >> 22) as usize]) * loudness * rise * fall / (256 * 256 * 256);
            track.push(i16::try_from(sample).unwrap_or(0));
            phase = phase.wrapping_add(step);
        }
    }
    track
}

/// How a letter sounds, in parts of 256.
struct Voice {
    loudness: i64,
    fades: i64,
}

impl Voice {
    fn of(letter: char) -> Self {
        let (loudness, fades) = match letter.to_ascii_lowercase() {
            'a' | 'e' | 'i' | 'o' | 'u' | 'y' => (230, 120),
            letter if letter.is_whitespace() => (0, 0),
            letter if letter.is_alphanumeric() => (130, 250),
            _ => (40, 250),
        };
        Self { loudness, fades }
    }
}

/// One period of the voice: a tone and three overtones, in 1024 steps.
fn timbre() -> Vec<i16> {
    (0..1_024_u32)
        .map(|step| {
            let at = f64::from(step) / 1_024.0;
            let sum = wave(at) + 0.5 * wave(2.0 * at) + 0.3 * wave(3.0 * at) + 0.15 * wave(5.0 * at);
            sample(sum / 1.95)
        })
        .collect()
}

/// A file of 16-bit mono sound.
fn wav(track: &[i16]) -> Vec<u8> {
    const HEADER: u32 = 44;
    let length = u32::try_from(track.len() * 2).unwrap_or(u32::MAX - HEADER);
    let mut file = Vec::with_capacity((HEADER + length) as usize);
    file.extend_from_slice(b"RIFF");
    file.extend_from_slice(&(HEADER - 8 + length).to_le_bytes());
    file.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    file.extend_from_slice(&RATE.to_le_bytes());
    file.extend_from_slice(&(RATE * 2).to_le_bytes());
    file.extend_from_slice(b"\x02\0\x10\0data");
    file.extend_from_slice(&length.to_le_bytes());
    file.extend(track.iter().flat_map(|sample| sample.to_le_bytes()));
    file
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 600 s of samples")]
fn samples(seconds: f64) -> u32 {
    (seconds * f64::from(RATE)).round() as u32
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most half a turn")]
fn turns(part: f64) -> u32 {
    (part * 4_294_967_296.0) as u32
}

#[allow(clippy::cast_possible_truncation, reason = "from -1 to 1, and saturates")]
fn sample(value: f64) -> i16 {
    (value * 32_767.0) as i16
}
