//! Films: animated gifs, since no encoder of a film format in Rust makes small files, and any browser and
//! player shows them.

use alloc::vec::Vec;

use gif::{Encoder, EncodingError, Frame, Repeat};

use super::{bytes, refused, scene::Scene, seed::Seed};
use crate::{
    engine::{EngineError, Output},
    wire::{Finite, task::VideoTask},
};

/// The largest frame, in pixels.
const MAX_FRAME: u64 = 16_800_000;
/// The most pixels of a whole film: what is written stays below 100 MB, and mostly far below.
const MAX_FILM: u64 = 100_000_000;
/// Frames a second where the task does not say.
const RATE: f64 = 8.0;
/// Frames a second that a gif can show: below 2 hundredths of a second, players slow down.
const RATES: (f64, f64) = (1.0, 50.0);
/// With the caption's two colours, half of what a gif can have: a film is shorter with fewer.
const SHADES: u16 = 126;

pub(super) fn shoot(task: &VideoTask, seed: &Seed) -> Result<Output, EngineError> {
    let plan = Plan::of(task)?;
    let scene = Scene::new(seed, task.width, task.height, SHADES);
    let film = film(&scene, &plan)
        .map_err(|error| refused("seconds", format_args!("the film can't be written: {error}")))?;
    Ok(bytes("gif", film))
}

/// When each frame is shown.
struct Plan {
    width: u16,
    height: u16,
    /// Hundredths of a second that the whole film lasts.
    length: u32,
    frames: u32,
}

impl Plan {
    fn of(task: &VideoTask) -> Result<Self, EngineError> {
        let (width, height, seconds) = (task.width, task.height, task.seconds.get());
        let pixels = u64::from(width) * u64::from(height);
        let (Ok(narrow), Ok(low), 1..=MAX_FRAME) = (u16::try_from(width), u16::try_from(height), pixels)
        else {
            let parameter = if width >= height { "width" } else { "height" };
            let problem = format_args!("{width}×{height} is not within 1 to {MAX_FRAME} pixels");
            return Err(refused(parameter, problem));
        };
        let (slowest, fastest) = RATES;
        let rate = match task.fps.map_or(RATE, Finite::get) {
            rate if rate > 0.0 => rate.clamp(slowest, fastest),
            rate => return Err(refused("fps", format_args!("{rate} is not above 0"))),
        };
        // A film that would be too large has fewer frames, down to one a second.
        let room = f64::from(u32::try_from(MAX_FILM / pixels).unwrap_or(u32::MAX));
        if !(seconds > 0.0 && seconds * slowest <= room) {
            let problem = format_args!("{seconds} is not within 0 to {room} at {width}×{height}");
            return Err(refused("seconds", problem));
        }
        let frames = (seconds * rate).ceil().clamp(1.0, room);
        let length = (seconds * 100.0).round().max(2.0 * frames);
        Ok(Self { width: narrow, height: low, length: whole(length), frames: whole(frames) })
    }

    /// Hundredths of a second that frame `number` is shown: what is rounded off one is given to the next.
    fn delay(&self, number: u32) -> u16 {
        let starts = |number: u32| u64::from(number) * u64::from(self.length) / u64::from(self.frames);
        u16::try_from(starts(number + 1) - starts(number)).unwrap_or(u16::MAX)
    }
}

fn film(scene: &Scene, plan: &Plan) -> Result<Vec<u8>, EncodingError> {
    let palette = scene.palette().concat();
    let mut encoder = Encoder::new(Vec::new(), plan.width, plan.height, &palette)?;
    encoder.set_repeat(Repeat::Infinite)?;
    for number in 0..plan.frames {
        let mut frame = Frame {
            width: plan.width,
            height: plan.height,
            delay: plan.delay(number),
            buffer: Vec::with_capacity(usize::from(plan.width) * usize::from(plan.height)).into(),
            ..Frame::default()
        };
        let shades = frame.buffer.to_mut();
        scene.paint(f64::from(number) / f64::from(plan.frames), |row| {
            // A palette of a gif has at most 256 colours, and this one has 128.
            shades.extend(row.iter().map(|shade| u8::try_from(*shade).unwrap_or(u8::MAX)));
            Ok::<_, EncodingError>(())
        })?;
        encoder.write_frame(&frame)?;
    }
    encoder.into_inner()
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates, within checked bounds"
)]
fn whole(value: f64) -> u32 {
    value as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Task;

    #[test]
    fn a_long_film_has_fewer_frames() {
        for (seconds, side, frames) in [(2, 512, 16), (2, 4_096, 5), (100, 1_000, 100), (100, 500, 400)] {
            let task = serde_json::json!({
                "kind": "video", "prompt": "p", "seconds": seconds, "width": side, "height": side,
            });
            let Task::Video(task) = Task::from_json(&task).unwrap() else { panic!("{task} is a film") };
            let plan = Plan::of(&task).unwrap();
            assert_eq!(plan.frames, frames);
            let length: u32 = (0..frames).map(|number| u32::from(plan.delay(number))).sum();
            assert_eq!(length, seconds * 100);
        }
    }
}
