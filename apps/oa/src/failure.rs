//! Decides what the caller of a command is told when it does not work: one sentence, and an exit code that says whose move it is.

use std::{fmt, io};

use oa_client::CallError;

/// Everything went well.
pub const OK: u8 = 0;
/// The command ran and found something wrong, or could not do its work.
pub const WRONG: u8 = 1;
/// The command line, the environment or the configuration file is wrong.
pub const USAGE: u8 = 2;
/// No server answered.
pub const NO_ANSWER: u8 = 3;
/// The server refused.
pub const REFUSED: u8 = 4;
/// `oa exec`: the command was not started, because its run could not be recorded.
pub const NOT_STARTED: u8 = 125;
/// `oa exec`: the command was found but could not be run.
pub const NOT_EXECUTABLE: u8 = 126;
/// `oa exec`: there is no such command.
pub const NOT_FOUND: u8 = 127;

/// The exit codes, as `--help` prints them.
pub const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    something is wrong, and the message says what (a proof that does not fit, a finding of the doctor)
  2    the command line, the environment or the configuration file is wrong
  3    no server answered
  4    the server refused
  oa exec passes on the code of its command (128 + signal if a signal ended it), and uses
  125  the command was not started, because its run could not be opened
  126  the command could not be run
  127  there is no such command";

/// Why a command did not do its work.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: u8,
    pub sentence: String,
}

impl Failure {
    pub fn new(code: u8, sentence: impl Into<String>) -> Self {
        Failure { code, sentence: sentence.into() }
    }

    pub fn wrong(sentence: impl Into<String>) -> Self {
        Failure::new(WRONG, sentence)
    }

    pub fn usage(sentence: impl Into<String>) -> Self {
        Failure::new(USAGE, sentence)
    }

    /// A file that could not be read or written.
    pub fn file(path: &std::path::Path, error: &io::Error) -> Self {
        Failure::wrong(format!("{}: {error}", path.display()))
    }

    /// A call to the server at `base` that gave no reply.
    pub fn call(base: &str, error: CallError) -> Self {
        match error {
            CallError::NoAnswer(why) => Failure::new(
                NO_ANSWER,
                format!(
                    "no answer from {base} ({why}). Is it running? `oa up` starts it, `oa doctor` looks what is wrong"
                ),
            ),
            CallError::Refused { status: 401, message, .. } => Failure::new(
                REFUSED,
                format!(
                    "{base} does not accept the credential: {}. Give --token, or --data for the directory that the server uses",
                    message.trim_end_matches('.')
                ),
            ),
            CallError::Refused { status, code, message, .. } => {
                Failure::new(REFUSED, format!("{base} refused with {status} {code}: {message}"))
            }
            CallError::Unreadable(why) => {
                Failure::wrong(format!("the answer of {base} cannot be read: {why}"))
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Failure {}
