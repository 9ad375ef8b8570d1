//! How [`LocalRuntime::block_on`](super::LocalRuntime) starts an executor. Only conformance suites
//! need it: all other code already runs on an executor.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;

/// Starts an executor, enters it, and runs the future to its end.
type Drive = Rc<dyn Fn(Pin<&mut dyn Future<Output = ()>>)>;

thread_local! {
    static DRIVE: RefCell<Option<Drive>> = const { RefCell::new(None) };
}

/// Makes `block_on` on this thread call `drive` until the guard is dropped. `drive` starts an
/// executor, enters it and runs the given future to its end.
#[must_use = "`block_on` forgets it when the guard is dropped"]
pub fn drive_by(drive: impl Fn(Pin<&mut dyn Future<Output = ()>>) + 'static) -> Driven {
    Driven { before: DRIVE.replace(Some(Rc::new(drive))) }
}

/// Guard of [`drive_by`].
pub struct Driven {
    before: Option<Drive>,
}

impl Drop for Driven {
    fn drop(&mut self) {
        let left = DRIVE.replace(self.before.take());
        drop(left); // after the borrow
    }
}

/// Runs `future` to its end on a new executor.
///
/// # Panics
/// If [`drive_by`] was not called.
#[track_caller]
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let drive = DRIVE.with_borrow(Option::clone);
    let drive = drive.expect("block_on starts no executor of its own: see drive_by");
    let mut output = None;
    {
        let root = std::pin::pin!(async { output = Some(future.await) });
        drive(root);
    }
    output.expect("drive returned before the future had ended")
}
