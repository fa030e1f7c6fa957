//! Pictures.

use alloc::vec::Vec;
use core::convert::Infallible;

use image::{
    ExtendedColorType, ImageEncoder, ImageResult,
    codecs::{jpeg::JpegEncoder, png::PngEncoder, webp::WebPEncoder},
};

use super::{bytes, refused, scene::Scene, seed::Seed};
use crate::{
    engine::{EngineError, Output},
    wire::task::ImageTask,
};

/// The largest picture that is drawn, in pixels: 64 megapixels, 192 MB before they are compressed.
const MAX_PIXELS: u64 = 64_000_000;
/// So many that a gradient shows no bands.
const SHADES: u16 = 1_024;
/// Of a JPEG, from 1 to 100.
const QUALITY: u8 = 90;

pub(super) fn draw(task: &ImageTask, seed: &Seed) -> Result<Output, EngineError> {
    let (width, height) = (task.width, task.height);
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 || pixels > MAX_PIXELS {
        let parameter = if width >= height { "width" } else { "height" };
        return Err(refused(
            parameter,
            format_args!("{width}×{height} is not within 1 to {MAX_PIXELS} pixels"),
        ));
    }

    let scene = Scene::new(seed, width, height, SHADES);
    let palette = scene.palette();
    let mut rgb = Vec::with_capacity(usize::try_from(pixels * 3).unwrap_or_default());
    let painted = scene.paint(0.0, |row| {
        rgb.extend(row.iter().flat_map(|shade| palette[usize::from(*shade)]));
        Ok::<_, Infallible>(())
    });
    let Ok(()) = painted;

    let mut encoded = Vec::new();
    let ext = task.ext.to_ascii_lowercase();
    let (made, outcome): (&str, ImageResult<()>) = match ext.as_str() {
        "png" => ("png", write(PngEncoder::new(&mut encoded), &rgb, width, height)),
        "jpg" | "jpeg" => {
            (&ext, write(JpegEncoder::new_with_quality(&mut encoded, QUALITY), &rgb, width, height))
        }
        _ => ("webp", write(WebPEncoder::new_lossless(&mut encoded), &rgb, width, height)),
    };
    outcome.map_err(|error| {
        refused("ext", format_args!("a {width}×{height} {made} can't be written: {error}"))
    })?;
    Ok(bytes(made, encoded))
}

fn write(encoder: impl ImageEncoder, rgb: &[u8], width: u32, height: u32) -> ImageResult<()> {
    encoder.write_image(rgb, width, height, ExtendedColorType::Rgb8)
}
