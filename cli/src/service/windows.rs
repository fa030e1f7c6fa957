//! The task scheduler of Windows. A plain program can't be a service there: the service manager wants an answer that only
//! a program made for it gives. A task starts it at logon or with the machine, and again when it failed.

use std::io::Write as _;

use super::{
    LOOK, START_PATIENCE, ServiceError,
    ask::{Answer, PATIENCE, Programs},
    description::Service,
    look_until,
    xml::escaped,
};

/// The task's name, which is that of the published programs: one takes the other's place.
pub(super) const TASK: &str = "MinisStudioWorker";
const SCHTASKS: &str = "schtasks";

/// The manager.
pub(super) struct Tasks {
    programs: Programs,
}

/// The description of the task.
pub(super) fn task(service: &Service) -> String {
    let user = escaped(&service.user);
    // For the machine: without anybody logged on, and without a stored password.
    let (trigger, whose, logon) = if service.system {
        ("BootTrigger", String::new(), "S4U")
    } else {
        ("LogonTrigger", format!("<UserId>{user}</UserId>"), "InteractiveToken")
    };
    // Which does nothing while it runs: not every end with an error counts as a failure there.
    let again =
        "<Repetition><Interval>PT5M</Interval><StopAtDurationEnd>false</StopAtDurationEnd></Repetition>";
    let trigger = format!("<{trigger}>{again}<Enabled>true</Enabled>{whose}</{trigger}>");
    let arguments: Vec<_> = service.arguments().into_iter().map(quoted).collect();
    format!(
        r#"<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo>
    <Description>Studio worker: takes jobs from a studio and runs them on this machine</Description>
  </RegistrationInfo>
  <Triggers>{trigger}</Triggers>
  <Principals>
    <Principal id="Author"><UserId>{user}</UserId><LogonType>{logon}</LogonType><RunLevel>LeastPrivilege</RunLevel></Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <StartWhenAvailable>true</StartWhenAvailable>
    <RunOnlyIfNetworkAvailable>false</RunOnlyIfNetworkAvailable>
    <IdleSettings><StopOnIdleEnd>false</StopOnIdleEnd><RestartOnIdle>false</RestartOnIdle></IdleSettings>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <Priority>7</Priority>
    <RestartOnFailure><Interval>PT1M</Interval><Count>999</Count></RestartOnFailure>
  </Settings>
  <Actions Context="Author">
    <Exec><Command>{program}</Command><Arguments>{arguments}</Arguments></Exec>
  </Actions>
</Task>
"#,
        program = escaped(&service.program),
        arguments = escaped(&arguments.join(" ")),
    )
}

/// An argument as programs on Windows read it: between quotes a backslash counts only in front of a quote.
fn quoted(argument: &str) -> String {
    if !argument.is_empty() && !argument.contains([' ', '\t', '"']) {
        return argument.to_owned();
    }
    let mut quoted = String::from('"');
    let mut backslashes = 0;
    for character in argument.chars() {
        match character {
            '\\' => backslashes += 1,
            '"' => {
                quoted.push_str(&"\\".repeat(backslashes + 1));
                backslashes = 0;
            }
            _ => backslashes = 0,
        }
        quoted.push(character);
    }
    quoted.push_str(&"\\".repeat(backslashes));
    quoted.push('"');
    quoted
}

impl Tasks {
    pub(super) fn new(programs: Programs) -> Self {
        Self { programs }
    }

    /// `runs` says whether a worker runs with the service's configuration.
    pub(super) fn install(&self, service: &Service, runs: &dyn Fn() -> bool) -> Result<String, ServiceError> {
        if self.exists()? {
            self.end(runs)?;
        }
        let failed = |what| ServiceError::file(what, "the description of the task");
        let mut file = tempfile::Builder::new().suffix(".xml").tempfile().map_err(failed("made"))?;
        let units: Vec<u8> =
            std::iter::once(0xfeff).chain(task(service).encode_utf16()).flat_map(u16::to_le_bytes).collect();
        file.write_all(&units).map_err(failed("written"))?;
        // Closed, so that another program can read it there.
        let path = file.into_temp_path();
        self.tell(&["/Create", "/TN", TASK, "/XML", &path.to_string_lossy(), "/F"])?;
        let started = self.tell(&["/Run", "/TN", TASK])?;
        if look_until(START_PATIENCE, || Ok(runs().then_some(())))?.is_some() {
            return Ok(format!("installed the task {TASK}; it runs"));
        }
        let words = format!("{}, and no worker runs", started.words());
        Err(ServiceError::NotRunning { name: TASK, words, log: String::new() })
    }

    pub(super) fn uninstall(&self) -> Result<String, ServiceError> {
        if !self.exists()? {
            return Ok(format!("there is no task {TASK} to remove"));
        }
        // It may not run.
        self.ask(&["/End", "/TN", TASK])?;
        self.tell(&["/Delete", "/TN", TASK, "/F"])?;
        if self.exists()? {
            let words = self.ask(&["/Query", "/TN", TASK])?.words();
            return Err(ServiceError::NotGone { name: TASK, words });
        }
        Ok(format!("removed the task {TASK}"))
    }

    /// Ends what runs, and waits until it is gone.
    fn end(&self, runs: &dyn Fn() -> bool) -> Result<(), ServiceError> {
        let answer = self.ask(&["/End", "/TN", TASK])?;
        match look_until(50 * LOOK, || Ok((!runs()).then_some(())))? {
            Some(()) => Ok(()),
            None => Err(ServiceError::NotGone { name: TASK, words: answer.words() }),
        }
    }

    fn exists(&self) -> Result<bool, ServiceError> {
        Ok(self.ask(&["/Query", "/TN", TASK])?.well)
    }

    fn ask(&self, args: &[&str]) -> Result<Answer, ServiceError> {
        self.programs.ask(SCHTASKS, args, PATIENCE)
    }

    fn tell(&self, args: &[&str]) -> Result<Answer, ServiceError> {
        self.programs.tell(SCHTASKS, args, PATIENCE)
    }
}
