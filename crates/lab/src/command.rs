//! Running other programs, with errors that say which one failed and what it said.

use std::io::{Read, Write};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, bail};

use crate::interrupt::{self, Running};

/// Runs to the end and returns what was written to standard output.
///
/// # Errors
/// When the program cannot be started, does not end with 0 (with what it wrote to standard error), or an interrupt was requested.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = output(command)?;
    if !output.status.success() {
        bail!(
            "`{}` failed ({}): {}",
            shown(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs to the end, however that is.
///
/// # Errors
/// When the program cannot be started or an interrupt was requested.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<Output> {
    piped(command, &[], |stdout| {
        let mut all = Vec::new();
        stdout.read_to_end(&mut all)?;
        Ok(all)
    })
    .map(|(stdout, output)| Output { stdout, ..output })
}

/// Runs to the end; `input` goes to standard input, and `read` takes standard output as it comes.
///
/// What the program reads and writes must not wait for each other: it reads all of `input` first, and little goes to standard error.
///
/// # Errors
/// When the program cannot be started, `read` fails or an interrupt was requested.
pub(crate) fn piped<T>(
    command: &mut Command,
    input: &[u8],
    read: impl FnOnce(&mut dyn Read) -> std::io::Result<T>,
) -> anyhow::Result<(T, Output)> {
    interrupt::check()?;
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = spawn(command)?;
    let running = Running::new(child.id());
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not want its input has its say on standard error.
        let _ = stdin.write_all(input);
    }
    let mut stdout = child.stdout.take().context("no standard output")?;
    let read = read(&mut stdout).with_context(|| format!("reading from `{}`", shown(command)));
    drop(stdout);
    let output = child.wait_with_output()?;
    drop(running);
    interrupt::check()?;
    Ok((read?, output))
}

/// # Errors
/// When the program cannot be started.
pub(crate) fn spawn(command: &mut Command) -> anyhow::Result<Child> {
    command
        .spawn()
        .with_context(|| format!("cannot run `{}`", shown(command)))
}

/// The command line, for people.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_output_of_a_program_that_succeeds() {
        assert_eq!(run(Command::new("echo").arg("hello")).unwrap(), "hello\n");
    }

    #[test]
    fn a_failure_names_the_command_and_tells_what_it_said() {
        let error = run(Command::new("sh").args(["-c", "echo because >&2; exit 3"]))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("exit 3") && error.contains("because"),
            "{error}"
        );
    }

    #[test]
    fn input_reaches_the_program() {
        let (read, _) = piped(&mut Command::new("cat"), b"abc", |out| {
            let mut text = String::new();
            out.read_to_string(&mut text)?;
            Ok(text)
        })
        .unwrap();
        assert_eq!(read, "abc");
    }
}
