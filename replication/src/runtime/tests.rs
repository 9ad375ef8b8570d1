//! Do tasks, sleeps and the entered executor behave as they must, on an executor run by hand?

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use openraft::AsyncRuntime as _;
use openraft::rt::{Instant as _, OneshotSender as _};
use rand::Rng as _;
use walengine_net::model::Timestamp;

use super::*;
use crate::executor::Runtime;
use crate::wait_queue::testing::{Woken, poll_once};

type BoxedTask = Pin<Box<dyn Future<Output = ()>>>;

/// Tasks are polled by hand and the clock is set by hand. Its random number is its own number.
#[derive(Clone, Default)]
struct Still {
    number: u64,
    tasks: Rc<RefCell<Vec<BoxedTask>>>,
    elapsed: Rc<Cell<Duration>>,
    sleeps: Rc<Cell<usize>>,
}

/// One alarm of [`Still`].
struct Alarm(Rc<Cell<usize>>);

impl Drop for Alarm {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Runtime for Still {
    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.tasks.borrow_mut().push(Box::pin(task));
    }

    async fn sleep(&self, _duration: Duration) {
        self.sleeps.set(self.sleeps.get() + 1);
        let _alarm = Alarm(self.sleeps.clone());
        std::future::pending::<()>().await;
    }

    async fn yield_now(&self) {}

    fn now(&self) -> Timestamp {
        Timestamp(0)
    }

    fn elapsed(&self) -> Duration {
        self.elapsed.get()
    }

    fn random_u64(&self) -> u64 {
        self.number
    }
}

impl Still {
    fn numbered(number: u64) -> Self {
        Self { number, ..Self::default() }
    }

    fn only_task(&self) -> BoxedTask {
        let task = self.tasks.borrow_mut().pop();
        assert!(self.tasks.borrow().is_empty());
        task.expect("one task was spawned")
    }
}

/// Draws a random number when it is dropped.
struct DrawsAtTheEnd(Rc<Cell<u64>>);

impl Drop for DrawsAtTheEnd {
    fn drop(&mut self) {
        self.0.set(LocalRuntime::thread_rng().next_u64());
    }
}

#[test]
fn left_executor_gives_place_to_the_one_before() {
    let draw = || LocalRuntime::thread_rng().next_u64();
    let first = enter(Still::numbered(1));
    assert_eq!(draw(), 1);
    let second = enter(Still::numbered(2));
    assert_eq!(draw(), 2);
    drop(second);
    assert_eq!(draw(), 1);
    drop(first);
    assert!(catch_unwind(draw).is_err());
}

#[test]
#[should_panic(expected = "no executor is entered on this thread")]
fn call_without_an_executor_panics_and_says_so() {
    drop(LocalRuntime::sleep(Duration::ZERO));
}

#[test]
#[should_panic(expected = "another order than they were entered")]
fn leaving_out_of_order_panics() {
    let first = enter(Still::numbered(1));
    let _second = enter(Still::numbered(2));
    drop(first);
}

#[test]
fn task_takes_its_executor_along_to_its_drop() {
    let (first, second) = (Still::numbered(1), Still::numbered(2));
    let (at_poll, at_drop) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    for ends in [true, false] {
        let (poll, drops) = (at_poll.clone(), DrawsAtTheEnd(at_drop.clone()));
        let handle = {
            let _entered = enter(first.clone());
            LocalRuntime::spawn(async move {
                poll.set(LocalRuntime::thread_rng().next_u64());
                if !ends {
                    std::future::pending::<()>().await;
                }
                drop(drops);
            })
        };
        let _entered = enter(second.clone());
        let mut task = first.only_task();
        assert_eq!(poll_once(&mut task).is_ready(), ends);
        drop(task);
        assert_eq!((at_poll.take(), at_drop.take()), (1, 1));
        drop(handle);
        assert_eq!(LocalRuntime::thread_rng().next_u64(), 2);
    }
}

#[test]
fn dropped_handle_leaves_the_task_running() {
    let (still, ran) = (Still::default(), Rc::new(Cell::new(false)));
    let _entered = enter(still.clone());
    let flag = ran.clone();
    drop(LocalRuntime::spawn(async move { flag.set(true) }));
    assert!(poll_once(&mut still.only_task()).is_ready());
    assert!(ran.get());
}

#[test]
fn handle_tells_output_panic_and_drop_apart() {
    let (still, woken) = (Still::default(), Woken::default());
    let _entered = enter(still.clone());

    let mut handle = LocalRuntime::spawn(async { 7 });
    assert!(woken.poll(0, &mut handle).is_pending());
    assert!(poll_once(&mut still.only_task()).is_ready());
    assert_eq!(woken.take(), [0]);
    assert_eq!(poll_once(&mut handle), Poll::Ready(Ok(7)));

    let mut handle = LocalRuntime::spawn(async { std::future::pending::<u8>().await });
    let mut task = still.only_task();
    assert!(poll_once(&mut task).is_pending());
    drop(task);
    assert_eq!(poll_once(&mut handle), Poll::Ready(Err(JoinError::Dropped)));

    let mut handle = LocalRuntime::spawn(async { panic!("on purpose") });
    let mut task = still.only_task();
    assert!(woken.poll(1, &mut handle).is_pending());
    assert!(
        catch_unwind(AssertUnwindSafe(|| poll_once(&mut task))).is_err(),
        "it is not held back"
    );
    drop(task);
    assert_eq!(woken.take(), [1]);
    let Poll::Ready(Err::<(), _>(error)) = poll_once(&mut handle) else { panic!("no error") };
    assert!(LocalRuntime::is_panic(&error) && !LocalRuntime::is_panic(&JoinError::Dropped));
}

#[test]
fn sleep_ends_at_its_deadline_and_keeps_one_alarm_however_often_it_is_polled() {
    let (still, woken) = (Still::default(), Woken::default());
    let _entered = enter(still.clone());
    let second = Duration::from_secs(1);
    let mut sleep = LocalRuntime::sleep(second);
    for _ in 0..5 {
        assert!(woken.poll(0, &mut sleep).is_pending());
        assert_eq!(still.sleeps.get(), 1);
    }
    still.elapsed.set(Duration::from_micros(999_990));
    assert!(woken.poll(0, &mut sleep).is_pending());
    still.elapsed.set(second);
    assert!(woken.poll(0, &mut sleep).is_ready());
    assert_eq!(still.sleeps.get(), 0);
    assert_eq!(woken.take(), [0_usize; 0]);
}

#[test]
fn sleep_whose_deadline_has_passed_lets_others_run_first() {
    let (still, woken) = (Still::default(), Woken::default());
    let _entered = enter(still.clone());
    let mut sleep = LocalRuntime::sleep_until(LocalInstant::now() - Duration::from_secs(1));
    assert!(woken.poll(0, &mut sleep).is_pending());
    assert_eq!(woken.take(), [0]);
    assert!(woken.poll(0, &mut sleep).is_ready());
}

#[test]
fn sleep_of_a_microsecond_takes_no_alarm_and_is_not_short() {
    let (still, woken) = (Still::default(), Woken::default());
    let _entered = enter(still.clone());
    let mut sleep = LocalRuntime::sleep(Duration::from_micros(1));
    for nanos in [0, 500, 999] {
        still.elapsed.set(Duration::from_nanos(nanos));
        assert!(woken.poll(0, &mut sleep).is_pending());
        assert_eq!((still.sleeps.get(), woken.take()), (0, vec![0]));
    }
    still.elapsed.set(Duration::from_micros(1));
    assert!(woken.poll(0, &mut sleep).is_ready());
}

#[test]
fn output_at_the_deadline_beats_the_deadline() {
    let still = Still::default();
    let _entered = enter(still.clone());
    let second = Duration::from_secs(1);
    for (sends, expected) in [(true, Ok(Ok(3))), (false, Err(TimedOut))] {
        let (sender, receiver) = oneshot::channel();
        let mut timeout = LocalRuntime::timeout(second, receiver);
        assert!(poll_once(&mut timeout).is_pending());
        still.elapsed.set(still.elapsed.get() + second);
        if sends {
            sender.send(3).unwrap();
            assert_eq!(poll_once(&mut timeout), Poll::Ready(expected));
        } else {
            assert_eq!(poll_once(&mut timeout), Poll::Ready(expected));
            drop(sender);
        }
    }
}
