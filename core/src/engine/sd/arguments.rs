//! From a task and its model to the arguments of the program.

use alloc::{
    borrow::ToOwned,
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt::Write as _;

use super::SdCpp;
use crate::{
    engine::{contract::EngineError, program::argument_text, weights::Shelf},
    machine::{Argument, FileWanted, Part},
    wire::{CliDefaults, Finite, ModelFile, ModelSource, task::ImageTask},
};

/// Strength of the change to a start picture, where the task names none.
const STRENGTH: &str = "0.75";
/// Endings of a file that the program knows as a LoRA.
const LORA_ENDINGS: [&str; 3] = ["safetensors", "ckpt", "gguf"];

/// What is to be drawn with which files.
#[derive(Debug, Clone)]
pub(super) struct Drawing {
    /// The files that are needed, each with the argument that it is for; none for a LoRA, which is found in its folder.
    pub(super) files: Vec<(Option<&'static str>, FileWanted)>,
    /// The folder of the `lora` files, if there are some.
    lora_folder: Option<String>,
    prompt: String,
    negative_prompt: Option<String>,
    sampling_method: Option<String>,
    defaults: CliDefaults,
}

impl Drawing {
    /// Checks a job; the error says what is wrong with it, for good.
    pub(super) fn new(
        engine: &SdCpp,
        model: &str,
        task: &ImageTask,
        source: &ModelSource,
    ) -> Result<Self, EngineError> {
        let defaults = source.cli_defaults.clone();
        if task.mask_url.is_some() && task.init_image_url.is_none() && task.ref_image_url.is_none() {
            return Err(EngineError::permanent("a mask (maskUrl) is given without a picture that it is for"));
        }
        let shelf = Shelf::of_model(&engine.models_root, model);
        let wanted = shelf.files(source, engine.inputs)?;
        let mut files: Vec<(Option<&'static str>, FileWanted)> = Vec::new();
        let mut take = |role: &str, argument: &'static str| {
            let at = source.files.iter().position(|file| file.role == role)?;
            files.push((Some(argument), wanted[at].clone()));
            Some(())
        };
        take("diffusion-model", "--diffusion-model").or_else(|| take("model", "--model")).ok_or_else(
            || EngineError::permanent("the model has no file with the role `diffusion-model` or `model`"),
        )?;
        take("vae", "--vae");
        take("text-encoder", "--llm");
        take("text-encoder-vision", "--llm_vision");
        let weight = defaults.lora_weight.unwrap_or(Finite::from(1));
        let mut prompt = without_loras(&task.prompt);
        let mut lora_folder = None;
        for (file, wanted) in source.files.iter().zip(&wanted).filter(|(file, _)| file.role == "lora") {
            let _ = write!(prompt, " <lora:{}:{weight}>", lora_name(file)?);
            lora_folder = Some(shelf.path());
            // The program looks in one folder for all of them.
            files.push((None, FileWanted { copies: Vec::new(), ..wanted.clone() }));
        }
        let sampling_method = task.sampling_method.clone().or_else(|| defaults.sampling_method.clone());
        if let Some(method) = sampling_method.as_deref().filter(|method| !is_word(method)) {
            let shown: String = method.chars().filter(|c| !c.is_control()).take(40).collect();
            return Err(EngineError::permanent(format!("there is no sampling method {shown}")));
        }
        Ok(Self {
            files,
            lora_folder,
            prompt: argument_text("prompt", prompt)?,
            negative_prompt: match &task.negative_prompt {
                Some(prompt) if !prompt.is_empty() => {
                    Some(argument_text("negative_prompt", without_loras(prompt))?)
                }
                _ => None,
            },
            sampling_method,
            defaults,
        })
    }

    /// The arguments, with `paths` for the files in their order, and `inputs` by the name of the file without its
    /// extension.
    pub(super) fn arguments(
        &self,
        task: &ImageTask,
        paths: &[String],
        inputs: &Inputs,
        output: &str,
    ) -> Vec<Argument> {
        let mut arguments = Vec::new();
        let mut push = |flag: &str, value: Argument| arguments.extend([flag.into(), value]);
        for ((argument, _), path) in self.files.iter().zip(paths) {
            if let Some(flag) = argument {
                push(flag, path.clone().into());
            }
        }
        if let Some(folder) = &self.lora_folder {
            push("--lora-model-dir", folder.clone().into());
        }
        push("-p", self.prompt.clone().into());
        if let Some(prompt) = &self.negative_prompt {
            push("--negative-prompt", prompt.clone().into());
        }
        let scratch = |name: &String| Argument::from(Part::Scratch(name.clone()));
        if let Some(reference) = &inputs.reference {
            push("-r", scratch(reference));
        } else if let Some(init) = &inputs.init {
            push("--init-img", scratch(init));
            let strength = task.denoise.map_or_else(|| STRENGTH.to_owned(), |denoise| denoise.to_string());
            push("--strength", strength.into());
        }
        if let Some(mask) = &inputs.mask {
            push("--mask", scratch(mask));
        }
        let defaults = &self.defaults;
        let is_set = |scale: &Finite| *scale > Finite::ZERO;
        let scale = task.cfg_scale.filter(is_set).or_else(|| Some(defaults.cfg_scale).filter(is_set));
        push("--cfg-scale", scale.unwrap_or(Finite::from(1)).to_string().into());
        let steps = if task.steps == ImageTask::STEPS_UNSET { defaults.steps } else { task.steps };
        let steps = if steps == 0 { ImageTask::STEPS_UNSET } else { steps };
        push("--steps", steps.to_string().into());
        push("-W", task.width.to_string().into());
        push("-H", task.height.to_string().into());
        push("-o", Part::Scratch(output.to_owned()).into());
        if let Some(seed) = task.seed {
            // The program takes a signed number, and below 0 means: any.
            push("--seed", (seed & i64::MAX.unsigned_abs()).to_string().into());
        }
        if let Some(method) = &self.sampling_method {
            push("--sampling-method", method.clone().into());
        }
        if let Some(shift) = defaults.flow_shift {
            push("--flow-shift", shift.to_string().into());
        }
        if defaults.zero_cond_t == Some(true) {
            push("--model-args", "qwen_image_zero_cond_t=true".into());
        }
        if defaults.offload_to_cpu == Some(true) {
            arguments.push("--offload-to-cpu".into());
        }
        if defaults.mmap == Some(true) {
            arguments.push("--mmap".into());
        }
        if let Some(gib) = defaults.max_vram_gib {
            arguments.extend(["--max-vram".into(), gib.to_string().into()]);
        }
        arguments.push("--diffusion-fa".into());
        arguments
    }
}

/// Names of the files that a task brought, in the scratch folder.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Inputs {
    pub(super) reference: Option<String>,
    pub(super) init: Option<String>,
    pub(super) mask: Option<String>,
}

/// The extension of the file that is to be written: one that the program knows.
pub(super) fn written(asked: &str) -> &'static str {
    match asked.to_ascii_lowercase().as_str() {
        "png" => "png",
        "jpg" | "jpeg" => "jpg",
        "bmp" => "bmp",
        _ => "webp",
    }
}

/// How a prompt names a LoRA: its file's name without the ending.
fn lora_name(file: &ModelFile) -> Result<&str, EngineError> {
    let name = file.filename.rsplit_once('.').filter(|(stem, ending)| {
        !stem.is_empty() && LORA_ENDINGS.iter().any(|known| known.eq_ignore_ascii_case(ending))
    });
    name.map(|(stem, _)| stem).ok_or_else(|| {
        EngineError::permanent(format_args!("sd-cli knows no LoRA with a name like {}", file.filename))
    })
}

/// A prompt that names no LoRA: a job has no say over which files are read.
///
/// The program takes tags out one after the other, and looks again at what is left. So none is taken out here, not even
/// a harmless one, around which another could close: a space in each makes it text.
fn without_loras(prompt: &str) -> String {
    const TAG: &str = "<lora:";
    let mut kept = String::with_capacity(prompt.len());
    let mut rest = prompt;
    while let Some(at) = rest.find('<') {
        let (before, from) = rest.split_at(at);
        kept.push_str(before);
        kept.push('<');
        if from.get(..TAG.len()).is_some_and(|start| start.eq_ignore_ascii_case(TAG)) {
            kept.push(' ');
        }
        rest = &from[1..];
    }
    kept.push_str(rest);
    kept
}

fn is_word(text: &str) -> bool {
    let is_of_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'_' | b'-');
    (1..=40).contains(&text.len()) && text.bytes().all(is_of_word) && !text.starts_with('-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the program does with a prompt: the names of its tags, in the order in which it finds them.
    fn found(mut prompt: String) -> Vec<String> {
        let mut names = Vec::new();
        // As its expression has it: `<lora:([^:]+):([^>]+)>`.
        let tag = |prompt: &str| {
            prompt.match_indices("<lora:").find_map(|(at, tag)| {
                let inner = at + tag.len();
                let colon = inner + prompt[inner..].find(':').filter(|length| *length > 0)?;
                let end = colon + 1 + prompt[colon + 1..].find('>').filter(|length| *length > 0)?;
                Some((at, inner..colon, end + 1))
            })
        };
        while let Some((at, name, end)) = tag(&prompt) {
            names.push(prompt[name].to_owned());
            prompt.replace_range(at..end, "");
        }
        names
    }

    proptest! {
        #[test]
        fn a_prompt_of_a_job_names_no_lora(
            parts in proptest::collection::vec(
                prop_oneof![
                    proptest::sample::select(vec![
                        "<lora:", "<LoRA:", "<lo", "ra:", "<l", "ora:", "<", "lora:", ":", ">", "a", "/etc/x", ":1>",
                    ]).prop_map(ToOwned::to_owned),
                    ".{0,3}",
                ],
                0..24,
            ),
        ) {
            let prompt = parts.concat();
            let kept = without_loras(&prompt);
            prop_assert!(!kept.to_ascii_lowercase().contains("<lora:"));
            prop_assert_eq!(kept.replace("< ", "<"), prompt.replace("< ", "<"));
            // Ours comes last.
            prop_assert_eq!(found(format!("{kept} <lora:own:1> <lora:other:0.5>")), ["own", "other"]);
        }
    }

    #[test]
    fn tags_in_tags_close_around_nothing() {
        let nested = "<lo<lora:/a:1>ra:/etc/secret:1>";
        assert_eq!(found(nested.into()), ["/a", "/etc/secret"], "the program would read both");
        assert_eq!(without_loras(nested), "<lo< lora:/a:1>ra:/etc/secret:1>");
        assert_eq!(without_loras("a < b, 1<2, <lora>, é<"), "a < b, 1<2, <lora>, é<");
    }
}
