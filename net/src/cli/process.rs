//! What a whole process promises: a panic anywhere ends it, and what it leaves on disk is its own.

use std::io;
use std::panic::PanicHookInfo;

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Resource, Rlimit};

use super::fatal::Reason;
use super::streams::say_last;

/// Makes a panic in any thread end the process, with one line and the exit code of
/// [`Reason::Panicked`]. A thread that is gone would leave a process that listens and answers nobody,
/// and no supervisor would start it again. For programs, not for tests and libraries.
pub fn end_on_panic(program: &'static str) {
    std::panic::set_hook(Box::new(move |panic| {
        say_last(format_args!("{}", panic_line(program, panic)));
        // Without destructors and exit handlers, which may wait for what the thread held.
        signal_hook::low_level::exit(i32::from(Reason::Panicked as u8));
    }));
}

fn panic_line(program: &str, panic: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("without a name");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let what = panic.payload_as_str().unwrap_or("no message").replace('\n', " ");
    format!(
        "{program}: thread {thread} panicked at {place}: {what}; this is a defect of the program: \
         please report this line; nothing that was acknowledged is lost, and it can be started again"
    )
}

/// Makes files and directories that this process creates its own user's alone, whatever the umask
/// was, and lets nobody take its memory out of a core dump.
///
/// # Errors
/// The system does not allow to forbid core dumps.
pub fn keep_private() -> io::Result<()> {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    // The limit does not count for a core dump that goes to a program, and the flag does.
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none)?;
    Ok(rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_a_process_writes_is_its_own_and_nobody_gets_its_memory() {
        keep_private().unwrap(); // this process's; no other test minds
        assert_eq!(rustix::process::dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        let cores = rustix::process::getrlimit(Resource::Core);
        assert_eq!((cores.current, cores.maximum), (Some(0), Some(0)));
        let path = std::env::temp_dir().join(format!("walengine-own-{}", std::process::id()));
        std::fs::write(&path, b"").unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::remove_file(path).unwrap();
    }
}
