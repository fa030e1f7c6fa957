//! Meshes: a ball with waves on it, like a pebble from another planet, as glTF 2.0 in one binary file.

use alloc::{collections::BTreeMap, vec::Vec};

use serde_json::json;

use super::{
    bytes,
    seed::{Choices, Seed, wave},
};
use crate::engine::{EngineError, Output};

/// How often each triangle is cut into four: this makes 4,098 corners and 8,192 triangles.
const CUTS: u32 = 5;

type Point = [f64; 3];

pub(super) fn model(seed: &Seed) -> Result<Output, EngineError> {
    let (directions, triangles) = sphere();
    let surface = Surface::new(&mut seed.choices());
    let heights: Vec<f64> = directions.iter().map(|direction| surface.height(*direction)).collect();
    let corners: Vec<Point> =
        directions.iter().zip(&heights).map(|(at, height)| scaled(*at, *height)).collect();
    let colours: Vec<[u8; 4]> = heights.iter().map(|height| surface.colour(*height)).collect();
    glb(&seed.digits(), &corners, &normals(&corners, &triangles), &colours, &triangles)
}

/// What the ball's surface looks like.
struct Surface {
    waves: Vec<(Point, f64, f64)>,
    tint: [f64; 3],
}

impl Surface {
    fn new(choices: &mut Choices) -> Self {
        let hue = choices.number(0.0, 1.0);
        let waves = (0..6)
            .map(|_| {
                let direction = core::array::from_fn(|_| choices.number(-1.2, 1.2));
                (direction, choices.number(0.0, 1.0), choices.number(0.02, 0.09))
            })
            .collect();
        Self { waves, tint: [hue, hue + 0.15, hue + 0.3] }
    }

    /// How far the surface is from the centre; about 1.
    fn height(&self, at: Point) -> f64 {
        self.waves
            .iter()
            .fold(1.0, |sum, (direction, start, height)| sum + height * wave(start + dot(*direction, at)))
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, as is wanted")]
    fn colour(&self, height: f64) -> [u8; 4] {
        let [red, green, blue] = self.tint.map(|tint| ((0.55 + 0.4 * wave(tint + height)) * 255.0) as u8);
        [red, green, blue, 255]
    }
}

/// The corners of a unit sphere, as directions, and its triangles, turning left seen from outside.
fn sphere() -> (Vec<Point>, Vec<[u16; 3]>) {
    // An octahedron cut over and over: simple, and nearly even.
    let mut corners: Vec<Point> = [
        [1.0, 0.0, 0.0],
        [-1.0, 0.0, 0.0],
        [0.0, 1.0, 0.0],
        [0.0, -1.0, 0.0],
        [0.0, 0.0, 1.0],
        [0.0, 0.0, -1.0],
    ]
    .into();
    let mut triangles: Vec<[u16; 3]> =
        [[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]].into();
    for _ in 0..CUTS {
        let mut middles = BTreeMap::new();
        let mut middle = |a: u16, b: u16| {
            *middles.entry((a.min(b), a.max(b))).or_insert_with(|| {
                corners.push(unit(sum(corners[usize::from(a)], corners[usize::from(b)])));
                u16::try_from(corners.len() - 1).unwrap_or(u16::MAX)
            })
        };
        triangles = triangles
            .into_iter()
            .flat_map(|[a, b, c]| {
                let (ab, bc, ca) = (middle(a, b), middle(b, c), middle(c, a));
                [[a, ab, ca], [ab, b, bc], [ca, bc, c], [ab, bc, ca]]
            })
            .collect();
    }
    (corners, triangles)
}

/// The direction in which the surface looks at each corner.
fn normals(corners: &[Point], triangles: &[[u16; 3]]) -> Vec<Point> {
    let mut normals = alloc::vec![[0.0; 3]; corners.len()];
    for triangle in triangles {
        let [a, b, c] = triangle.map(|at| corners[usize::from(at)]);
        let normal = cross(difference(b, a), difference(c, a));
        for at in triangle {
            let at = usize::from(*at);
            normals[at] = sum(normals[at], normal);
        }
    }
    normals.into_iter().map(unit).collect()
}

fn glb(
    name: &str,
    corners: &[Point],
    normals: &[Point],
    colours: &[[u8; 4]],
    triangles: &[[u16; 3]],
) -> Result<Output, EngineError> {
    let corners: Vec<[f32; 3]> = corners.iter().copied().map(single).collect();
    let normals: Vec<[f32; 3]> = normals.iter().copied().map(single).collect();
    let [low, high] = [f32::min, f32::max].map(|choose| {
        corners
            .iter()
            .copied()
            .reduce(|a, b| core::array::from_fn(|at| choose(a[at], b[at])))
            .unwrap_or_default()
    });

    let parts: [Vec<u8>; 4] = [
        corners.iter().flatten().flat_map(|number| number.to_le_bytes()).collect(),
        normals.iter().flatten().flat_map(|number| number.to_le_bytes()).collect(),
        colours.concat(),
        triangles.iter().flatten().flat_map(|at| at.to_le_bytes()).collect(),
    ];
    let mut start = 0;
    let views = parts.each_ref().map(|part| {
        let view = (start, part.len());
        start += part.len();
        view
    });
    // 34962: data of corners; 34963: data of triangles.
    let views: Vec<_> = views
        .into_iter()
        .zip([34_962, 34_962, 34_962, 34_963])
        .map(|((start, length), target)| {
            json!({ "buffer": 0, "byteOffset": start, "byteLength": length, "target": target })
        })
        .collect();
    let count = corners.len();
    // 5126: f32; 5121: u8; 5123: u16.
    let document = json!({
        "asset": { "version": "2.0", "generator": "studio-worker synthetic" },
        "scene": 0,
        "scenes": [{ "nodes": [0] }],
        "nodes": [{ "mesh": 0, "name": name }],
        "meshes": [{ "primitives": [{
            "attributes": { "POSITION": 0, "NORMAL": 1, "COLOR_0": 2 },
            "indices": 3,
            "material": 0,
        }]}],
        "materials": [{ "pbrMetallicRoughness": { "metallicFactor": 0.1, "roughnessFactor": 0.5 } }],
        "accessors": [
            { "bufferView": 0, "componentType": 5126, "count": count, "type": "VEC3", "min": low, "max": high },
            { "bufferView": 1, "componentType": 5126, "count": count, "type": "VEC3" },
            { "bufferView": 2, "componentType": 5121, "count": count, "type": "VEC4", "normalized": true },
            { "bufferView": 3, "componentType": 5123, "count": triangles.len() * 3, "type": "SCALAR" },
        ],
        "bufferViews": views,
        "buffers": [{ "byteLength": start }],
    });
    let mut text = alloc::format!("{document}").into_bytes();
    text.resize(text.len().next_multiple_of(4), b' ');
    let mut binary = parts.concat();
    binary.resize(binary.len().next_multiple_of(4), 0);

    let mut file = Vec::new();
    let whole = 12 + 8 + text.len() + 8 + binary.len();
    file.extend_from_slice(b"glTF");
    file.extend_from_slice(&2_u32.to_le_bytes());
    file.extend_from_slice(&length(whole)?);
    for (kind, chunk) in [(b"JSON", text), (b"BIN\0", binary)] {
        file.extend_from_slice(&length(chunk.len())?);
        file.extend_from_slice(kind);
        file.extend_from_slice(&chunk);
    }
    Ok(bytes("glb", file))
}

fn length(bytes: usize) -> Result<[u8; 4], EngineError> {
    u32::try_from(bytes).map(u32::to_le_bytes).map_err(EngineError::permanent)
}

fn scaled(a: Point, by: f64) -> Point {
    a.map(|part| part * by)
}

fn sum(a: Point, b: Point) -> Point {
    core::array::from_fn(|at| a[at] + b[at])
}

fn difference(a: Point, b: Point) -> Point {
    core::array::from_fn(|at| a[at] - b[at])
}

fn dot(a: Point, b: Point) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn cross(a: Point, b: Point) -> Point {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

fn unit(a: Point) -> Point {
    scaled(a, 1.0 / dot(a, a).sqrt())
}

#[allow(clippy::cast_possible_truncation, reason = "what glTF has")]
fn single(a: Point) -> [f32; 3] {
    a.map(|part| part as f32)
}
