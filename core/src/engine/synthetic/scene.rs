//! What pictures and films show: waves of colour, glassy balls that drift through them, and the first digits of
//! the hash in a corner.
//!
//! A scene is painted in *shades*, numbers of colours in a palette, a row at a time: a picture looks them up, a
//! gif stores them as they are. Whatever depends on one coordinate only is worked out once a frame, so that a
//! pixel costs a few additions.

use alloc::vec::Vec;

use super::seed::{Choices, Seed, wave};

/// Hex digits of three by five cells, a bit each, row by row from the top left.
const GLYPHS: [u16; 16] = [
    0o75557, 0o26227, 0o71747, 0o71717, 0o55711, 0o74717, 0o74757, 0o71122, 0o75757, 0o75717, 0o25755,
    0o65656, 0o34443, 0o65556, 0o74747, 0o74744,
];
/// How many digits are shown.
const DIGITS: usize = 8;
/// The caption's size in cells: digits a cell apart, and two cells of margin around them.
const CAPTION: (u32, u32) = (4 * 8 - 1 + 4, 5 + 4);

/// A scene for pictures of one size.
pub(super) struct Scene {
    width: u32,
    height: u32,
    shades: u16,
    tint: [f64; 3],
    waves: [Wave; 4],
    balls: Vec<Ball>,
    digits: [u8; DIGITS],
}

/// A wave along one direction.
struct Wave {
    /// How many there are across the picture's larger side.
    count: f64,
    /// Its height, in rounds of the palette.
    height: f64,
    /// Where it starts, in turns.
    start: f64,
    /// How far it runs while the film lasts, in whole turns, so that the film can be repeated without a jump.
    speed: f64,
}

impl Wave {
    /// Its height at each of `count` places, in shades.
    fn table(&self, places: u32, side: u32, shades: u16, time: f64) -> Vec<i32> {
        let step = self.count / f64::from(side);
        let height = self.height * f64::from(shades);
        (0..places)
            .map(|at| rounded(height * wave(self.start + self.speed * time + step * f64::from(at))))
            .collect()
    }
}

/// A ball that drifts on an ellipse; lengths are in parts of the picture's smaller side.
struct Ball {
    centre: (f64, f64),
    orbit: (f64, f64),
    start: f64,
    speed: f64,
    radius: f64,
    /// How far it bends the palette, in rounds.
    depth: f64,
}

/// A ball in a frame, in pixels and shades.
struct Placed {
    x: i64,
    y: i64,
    radius: i64,
    rim: i64,
    depth: i64,
}

impl Scene {
    /// A scene in `shades` colours and two more for the caption.
    pub(super) fn new(seed: &Seed, width: u32, height: u32, shades: u16) -> Self {
        let mut choices = seed.choices();
        let hue = choices.number(0.0, 1.0);
        let spread = choices.number(0.08, 0.22);
        let balls = choices.whole(3, 6);
        Self {
            width,
            height,
            shades,
            tint: [hue, hue + spread, hue + 2.0 * spread],
            waves: [(0.5, 1.2), (0.5, 1.2), (0.3, 1.0), (0.3, 1.0)].map(|(low, high)| Wave {
                count: choices.number(low, high),
                height: choices.number(0.08, 0.2),
                start: choices.number(0.0, 1.0),
                speed: direction(&mut choices),
            }),
            balls: (0..balls)
                .map(|_| Ball {
                    centre: (choices.number(0.1, 0.9), choices.number(0.1, 0.9)),
                    orbit: (choices.number(0.05, 0.25), choices.number(0.05, 0.25)),
                    start: choices.number(0.0, 1.0),
                    speed: direction(&mut choices),
                    radius: choices.number(0.06, 0.2),
                    depth: choices.number(0.2, 0.45),
                })
                .collect(),
            digits: seed.nibbles(),
        }
    }

    /// The colours of all shades, as red, green and blue: a round through related hues, then the caption's paper
    /// and ink.
    pub(super) fn palette(&self) -> Vec<[u8; 3]> {
        (0..self.shades)
            .map(|shade| {
                let turns = f64::from(shade) / f64::from(self.shades);
                self.tint.map(|tint| level(0.53 + 0.4 * wave(turns + tint)))
            })
            .chain([[16, 18, 24], [244, 244, 236]])
            .collect()
    }

    /// Paints the frame at `time`, from 0 at the start of the film to 1 at its end, and hands over each row.
    pub(super) fn paint<E>(
        &self,
        time: f64,
        mut row_done: impl FnMut(&[u16]) -> Result<(), E>,
    ) -> Result<(), E> {
        let (width, height) = (self.width, self.height);
        let [along_x, along_y, along_sum, along_difference] = &self.waves;
        let table = |wave: &Wave, places| wave.table(places, width.max(height), self.shades, time);
        let columns = table(along_x, width);
        let rows = table(along_y, height);
        let sums = table(along_sum, width + height);
        let differences = table(along_difference, width + height);
        let balls: Vec<Placed> = self.balls.iter().map(|ball| self.place(ball, time)).collect();

        let mut bent = alloc::vec![0_i32; width as usize];
        let mut row = alloc::vec![0_u16; width as usize];
        for (y, from_row) in (0..height).zip(rows) {
            let sums = sums.iter().skip(y as usize);
            let differences = differences.iter().skip((height - y) as usize);
            bent.fill(from_row);
            for (((bent, column), sum), difference) in
                bent.iter_mut().zip(&columns).zip(sums).zip(differences)
            {
                *bent += column + sum + difference;
            }
            for ball in &balls {
                ball.bend(i64::from(y), &mut bent);
            }
            for (shade, bent) in row.iter_mut().zip(&bent) {
                // A remainder of a division by `shades` is below it.
                *shade = u16::try_from(bent.rem_euclid(i32::from(self.shades))).unwrap_or(0);
            }
            self.caption(y, &mut row);
            row_done(&row)?;
        }
        Ok(())
    }

    fn place(&self, ball: &Ball, time: f64) -> Placed {
        let side = f64::from(self.width.min(self.height));
        let turns = ball.start + ball.speed * time;
        let x = ball.centre.0 * f64::from(self.width) + ball.orbit.0 * side * wave(turns + 0.25);
        let y = ball.centre.1 * f64::from(self.height) + ball.orbit.1 * side * wave(turns);
        let shades = f64::from(self.shades);
        Placed {
            x: rounded(x).into(),
            y: rounded(y).into(),
            radius: rounded(ball.radius * side).into(),
            rim: rounded(0.12 * shades).into(),
            depth: rounded(ball.depth * shades).into(),
        }
    }

    /// Writes the hash's first digits into the bottom left corner, where there is room for them.
    fn caption(&self, y: u32, row: &mut [u16]) {
        let scale = (self.width / 80).min(self.height / 30).max(1);
        let (width, height) = (CAPTION.0 * scale, CAPTION.1 * scale);
        if width > self.width || height > self.height {
            return;
        }
        let Some(cell_y) = (y + height).checked_sub(self.height).map(|y| y / scale) else { return };
        for (x, shade) in row.iter_mut().take(width as usize).enumerate() {
            let ink = self.has_ink(x / scale as usize, cell_y as usize);
            *shade = self.shades + u16::from(ink);
        }
    }

    fn has_ink(&self, x: usize, y: usize) -> bool {
        let (Some(x), Some(y)) = (x.checked_sub(2), y.checked_sub(2)) else { return false };
        let Some(digit) = self.digits.get(x / 4) else { return false };
        x % 4 < 3 && y < 5 && GLYPHS[usize::from(*digit)] >> (14 - 3 * y - x % 4) & 1 == 1
    }
}

impl Placed {
    /// Bends the shades of row `y` where the ball is: a step at its rim, most at its centre.
    fn bend(&self, y: i64, row: &mut [i32]) {
        let square = self.radius * self.radius;
        let half = square - (y - self.y) * (y - self.y);
        if half <= 0 {
            return;
        }
        let reach = half.isqrt();
        let (from, to) = ((self.x - reach).max(0), self.x + reach + 1);
        let (Ok(from), Ok(to)) = (usize::try_from(from), usize::try_from(to)) else { return };
        for (x, bent) in (0_i64..).zip(row.iter_mut()).skip(from).take(to.saturating_sub(from)) {
            let inside = (half - (x - self.x) * (x - self.x)).max(0);
            *bent += i32::try_from(self.rim + self.depth * inside / square).unwrap_or(0);
        }
    }
}

fn direction(choices: &mut Choices) -> f64 {
    if choices.whole(0, 1) == 0 { 1.0 } else { -1.0 }
}

#[allow(clippy::cast_possible_truncation, reason = "saturates, and is far from where it would")]
fn rounded(value: f64) -> i32 {
    value.round() as i32
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates, which is what is wanted"
)]
fn level(value: f64) -> u8 {
    (value * 255.0).round() as u8
}
