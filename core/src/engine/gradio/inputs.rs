//! From a task to an endpoint's inputs, by their names.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use serde_json::{Value, json};

use crate::wire::{Claim, task::ImageTask};

/// The largest seed that apps take: most have it on a slider of 31 bits.
const SEEDS: u64 = 1 << 31;

/// One input of an endpoint.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Input {
    /// What it is for, as far as its name says.
    pub(super) role: Option<Role>,
    /// What it is when nothing is given.
    pub(super) default: Option<Value>,
}

/// What an input is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Prompt,
    NegativePrompt,
    Width,
    Height,
    Steps,
    Seed,
    RandomSeed,
    Guidance,
    Model,
}

impl Role {
    /// What an input with this name, or label, is for.
    pub(super) fn by_name(name: &str) -> Option<Self> {
        let name: String = name
            .trim()
            .to_lowercase()
            .chars()
            .map(|c| if matches!(c, ' ' | '-') { '_' } else { c })
            .collect();
        Some(match name.as_str() {
            "prompt" | "text_prompt" | "positive_prompt" | "input_prompt" | "user_prompt" | "text" => {
                Self::Prompt
            }
            "negative_prompt" | "neg_prompt" | "negative" => Self::NegativePrompt,
            "width" | "image_width" => Self::Width,
            "height" | "image_height" => Self::Height,
            "steps"
            | "num_steps"
            | "num_inference_steps"
            | "inference_steps"
            | "sampling_steps"
            | "number_of_steps"
            | "number_of_inference_steps" => Self::Steps,
            "seed" => Self::Seed,
            "randomize_seed" | "random_seed" => Self::RandomSeed,
            "guidance_scale" | "guidance" | "cfg_scale" | "cfg" => Self::Guidance,
            "model" | "model_name" | "model_id" | "checkpoint" => Self::Model,
            _ => return None,
        })
    }
}

/// What to send for each of `inputs`. Where none is known to be the prompt it is the prompt and the model, in
/// this order, as published workers have it.
pub(super) fn arrange(inputs: &[Input], claim: &Claim, task: &ImageTask) -> Vec<Value> {
    if !inputs.iter().any(|input| input.role == Some(Role::Prompt)) {
        let mut data = plain(claim, task);
        if !inputs.is_empty() {
            data.truncate(inputs.len());
            data.extend(
                inputs.iter().skip(data.len()).map(|input| input.default.clone().unwrap_or_default()),
            );
        }
        return data;
    }
    inputs.iter().map(|input| value(input, claim, task)).collect()
}

/// The prompt and the model.
pub(super) fn plain(claim: &Claim, task: &ImageTask) -> Vec<Value> {
    Vec::from([task.prompt.clone().into(), claim.model.clone().into()])
}

fn value(input: &Input, claim: &Claim, task: &ImageTask) -> Value {
    let given: Option<Value> = input.role.and_then(|role| match role {
        Role::Prompt => Some(task.prompt.clone().into()),
        Role::NegativePrompt => task.negative_prompt.clone().map(Into::into),
        Role::Width => Some(task.width.into()),
        Role::Height => Some(task.height.into()),
        Role::Steps => (task.steps != ImageTask::STEPS_UNSET).then(|| task.steps.into()),
        Role::Seed => task.seed.map(|seed| (seed % SEEDS).into()),
        Role::RandomSeed => task.seed.map(|_| false.into()),
        Role::Guidance => task.cfg_scale.map(|scale| json!(scale)),
        Role::Model => Some(claim.model.clone().into()),
    });
    given.or_else(|| input.default.clone()).unwrap_or_else(|| match input.role {
        Some(Role::NegativePrompt) => "".into(),
        Some(Role::Steps) => task.steps.into(),
        Some(Role::Seed) => chosen_seed(claim).into(),
        _ => Value::Null,
    })
}

/// A seed for a job that names none and an app that wants one: the same for every attempt of the job.
fn chosen_seed(claim: &Claim) -> u64 {
    use sha2::{Digest, Sha256};

    let digest = Sha256::digest(claim.job_id.to_string());
    digest.iter().take(4).fold(0, |seed, byte| seed << 8 | u64::from(*byte)) % SEEDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_say_what_an_input_is_for() {
        for (name, role) in [
            ("prompt", Some(Role::Prompt)),
            ("Prompt", Some(Role::Prompt)),
            ("Negative Prompt", Some(Role::NegativePrompt)),
            ("num_inference_steps", Some(Role::Steps)),
            ("Guidance scale", Some(Role::Guidance)),
            ("randomize_seed", Some(Role::RandomSeed)),
            ("enhance_prompt", None),
            ("param_0", None),
            ("", None),
        ] {
            assert_eq!(Role::by_name(name), role, "{name}");
        }
    }
}
