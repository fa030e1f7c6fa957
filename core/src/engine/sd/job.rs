//! One picture, from finding the program to its bytes.

use alloc::{borrow::ToOwned, boxed::Box, format, string::String, vec::Vec};
use core::sync::atomic::Ordering;

use super::{
    SdCpp,
    arguments::{Drawing, Inputs, written},
    not_there,
};
use crate::{
    engine::{
        contract::{Effect, EngineError, Happened, Output, Payload, Recipe},
        format::Format,
        gather::{Gather, Wanted},
        program::{Words, how_ended, last_words_of},
        refusal::interrupted,
        server::confidential,
    },
    machine::{FileWanted, Keep, Made, Process, Program, Ran, Source},
    wire::{Secret, task::ImageTask},
};

/// The largest picture, in bytes: one of 16,384 pixels a side without compression.
const MAX_PICTURE: u64 = 1 << 30;

/// The recipe.
pub(super) struct Job {
    engine: SdCpp,
    task: ImageTask,
    drawing: Drawing,
    secrets: Vec<Secret>,
    program: String,
    /// Files for the scratch folder.
    scratch: Vec<(String, Vec<u8>)>,
    inputs: Inputs,
    paths: Vec<String>,
    environment: Vec<(String, String)>,
    ext: &'static str,
    stage: Stage,
}

enum Stage {
    Finding,
    Gathering(Box<Gather>),
    Having,
    Probing,
    Running,
}

impl Job {
    pub(super) fn new(engine: SdCpp, task: ImageTask, drawing: Drawing) -> Self {
        let brought = [&task.ref_image_url, &task.init_image_url, &task.mask_url];
        let secrets = brought.into_iter().flatten().flat_map(|address| confidential(address)).collect();
        Self {
            ext: written(&task.ext),
            engine,
            task,
            drawing,
            secrets,
            program: SdCpp::PROGRAM.to_owned(),
            scratch: Vec::new(),
            inputs: Inputs::default(),
            paths: Vec::new(),
            environment: Vec::new(),
            stage: Stage::Finding,
        }
    }

    fn words(&self) -> Words<'_> {
        Words { program: &self.program, secrets: &self.secrets }
    }

    /// What the program is to start from. A picture to take the subject from is another way to draw, without a start.
    fn brought(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let task = &self.task;
        let start = match &task.ref_image_url {
            Some(reference) => Some(("reference", reference)),
            None => task.init_image_url.as_ref().map(|init| ("init", init)),
        };
        start.into_iter().chain(task.mask_url.as_ref().map(|mask| ("mask", mask)))
    }

    fn found(&mut self, found: Vec<Option<String>>) -> Effect {
        let Some(program) = found.into_iter().flatten().next() else {
            return fail(self.words().trouble("is not there", &not_there(&self.engine.candidates)));
        };
        self.program = program;
        let wanted = self.brought().map(|(_, address)| Wanted::picture(address)).collect();
        let mut gather = Gather::new(self.engine.inputs, wanted);
        let effect = gather.next(Happened::Started);
        self.stage = Stage::Gathering(Box::new(gather));
        effect.and_then(|outcome| self.gathered(outcome))
    }

    fn gathered(&mut self, outcome: Result<Vec<Vec<u8>>, EngineError>) -> Effect {
        let gathered = match outcome {
            Ok(gathered) => gathered,
            Err(error) => return fail(error),
        };
        let names: Vec<&'static str> = self.brought().map(|(name, _)| name).collect();
        for (name, bytes) in names.into_iter().zip(gathered) {
            let Some(format) = Format::of(&bytes).filter(|format| format.is_picture()) else {
                return fail(EngineError::permanent(format_args!("the picture for {name} isn't a picture")));
            };
            // The program reads a file as what its name says.
            let file = format!("{name}.{}", format.ext());
            match name {
                "reference" => self.inputs.reference = Some(file.clone()),
                "init" => self.inputs.init = Some(file.clone()),
                _ => self.inputs.mask = Some(file.clone()),
            }
            self.scratch.push((file, bytes));
        }
        self.stage = Stage::Having;
        self.have_next()
    }

    fn have_next(&mut self) -> Effect {
        match self.drawing.files.get(self.paths.len()) {
            Some((_, file)) => Effect::Have(file.clone()),
            None => self.probe(),
        }
    }

    /// Looks for the library beside the program.
    fn probe(&mut self) -> Effect {
        let folder = self.program.rsplit_once('/').map(|(folder, _)| folder);
        match (&self.engine.loader, folder) {
            (Some(loader), Some(folder)) => {
                self.stage = Stage::Probing;
                Effect::Have(FileWanted {
                    path: format!("{folder}/{}", loader.library),
                    copies: Vec::new(),
                    origin: None,
                    approx_bytes: None,
                    sha256: None,
                })
            }
            _ => self.run(),
        }
    }

    fn probed(&mut self, is_there: bool) -> Effect {
        if let (true, Some(loader), Some((folder, _))) =
            (is_there, &self.engine.loader, self.program.rsplit_once('/'))
        {
            let folders = match loader.inherited.as_deref().filter(|inherited| !inherited.is_empty()) {
                Some(inherited) => format!("{folder}:{inherited}"),
                None => folder.to_owned(),
            };
            self.environment.push((loader.variable.clone(), folders));
        }
        self.run()
    }

    fn run(&mut self) -> Effect {
        if self.ext == "webp" && self.engine.writes_no_webp.load(Ordering::Relaxed) {
            self.ext = "png";
        }
        let output = format!("output.{}", self.ext);
        self.stage = Stage::Running;
        Effect::Run(Process {
            program: Program {
                program: self.program.clone(),
                arguments: self.drawing.arguments(&self.task, &self.paths, &self.inputs, &output),
                environment: self
                    .environment
                    .iter()
                    .map(|(name, value)| (name.clone(), value.clone().into()))
                    .collect(),
                inherits: Vec::new(),
            },
            inputs: self.scratch.clone(),
            stdin: Vec::new(),
            source: Source::File(output),
            keep: Keep::File,
            limit: MAX_PICTURE,
            wants_memory: true,
        })
    }

    fn ran(&mut self, ran: Ran) -> Effect {
        let Ran { ended, made } = ran;
        let words = last_words_of(&ended.stderr);
        if !ended.is_success() {
            return fail(self.words().trouble(how_ended(&ended), &words));
        }
        let Some(made) = made else {
            if self.ext == "webp" {
                self.engine.writes_no_webp.store(true, Ordering::Relaxed);
                return self.run();
            }
            return fail(self.words().trouble("ended well and made no picture", &words));
        };
        let (payload, format) = match made {
            Made::Memory(bytes) => {
                let format = Format::of(&bytes);
                (Payload::from(bytes), format)
            }
            Made::File { file, head } => (Payload::File(file), Format::of(&head)),
        };
        match format.filter(|format| format.is_picture()) {
            Some(format) => {
                Effect::Done(Ok(Output::Bytes { ext: format.ext_as_asked(&self.task.ext).into(), payload }))
            }
            None => fail(self.words().trouble("made something that is no picture", &words)),
        }
    }
}

fn fail(error: EngineError) -> Effect {
    Effect::Done(Err(error))
}

impl Recipe for Job {
    fn next(&mut self, happened: Happened) -> Effect {
        match (&mut self.stage, happened) {
            (Stage::Finding, Happened::Started) => Effect::Find(self.engine.candidates.clone()),
            (Stage::Finding, Happened::Found(found)) => self.found(found),
            (Stage::Gathering(gather), happened) => {
                gather.next(happened).and_then(|outcome| self.gathered(outcome))
            }
            (Stage::Having, Happened::Had(Ok(file))) => {
                self.paths.push(file.path);
                self.have_next()
            }
            (Stage::Having, Happened::Had(Err(error))) => fail(error),
            (Stage::Probing, Happened::Had(outcome)) => self.probed(outcome.is_ok()),
            (Stage::Running, Happened::Ran(Ok(ran))) => self.ran(ran),
            (Stage::Running, Happened::Ran(Err(failure))) => fail(self.words().failed(&failure)),
            _ => fail(interrupted()),
        }
    }
}
