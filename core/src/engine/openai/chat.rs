//! `llm`: a chat completion.

use alloc::{borrow::ToOwned, format, string::String, sync::Arc};

use crate::{
    engine::{
        chat::{self, Pictures, completion},
        contract::{Effect, EngineError, Happened, Output, Recipe},
        input::InputPolicy,
        server::{Answered, Call, Dialogue, MAX_JSON},
    },
    wire::task::LlmTask,
};

/// Fetches the pictures, one after the other, and asks.
pub(super) struct Chat {
    dialogue: Dialogue,
    model: String,
    task: LlmTask,
    stage: Stage,
}

enum Stage {
    Gathering(Pictures),
    Writing,
    Asking(Call),
}

impl Chat {
    pub(super) fn new(mut dialogue: Dialogue, policy: InputPolicy, model: &str, mut task: LlmTask) -> Self {
        let pictures = Pictures::of(&mut task, policy);
        for address in pictures.addresses() {
            dialogue.conceal(address);
        }
        Self { dialogue, model: model.to_owned(), task, stage: Stage::Gathering(pictures) }
    }

    fn read(&self, outcome: Answered) -> Result<Output, EngineError> {
        let body = self.dialogue.accepted(&format!("{} (llm)", self.model), outcome, MAX_JSON)?;
        match completion(&body, &self.model) {
            Some(completion) => Ok(Output::Json(Arc::new(completion))),
            None => Err(self.dialogue.not_wanted("a chat completion", &body)),
        }
    }
}

impl Recipe for Chat {
    fn next(&mut self, happened: Happened) -> Effect {
        match &mut self.stage {
            Stage::Gathering(pictures) => pictures.next(happened).and_then(|outcome| match outcome {
                Ok(pictures) => {
                    self.stage = Stage::Writing;
                    chat::write(&self.model, &self.task, pictures)
                }
                Err(error) => Effect::Done(Err(self.dialogue.discreet(&error))),
            }),
            Stage::Writing => match chat::written(happened) {
                Ok(body) => {
                    let (call, effect) = Call::begin(self.dialogue.post(chat::PATH, body, MAX_JSON));
                    self.stage = Stage::Asking(call);
                    effect
                }
                Err(error) => Effect::Done(Err(self.dialogue.discreet(&error))),
            },
            Stage::Asking(call) => call.next(happened).and_then(|outcome| Effect::Done(self.read(outcome))),
        }
    }
}
