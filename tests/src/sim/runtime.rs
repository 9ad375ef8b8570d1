//! Seeded single-threaded executor with a virtual clock; the production runtime's stand-in.
//!
//! Woken tasks run in rounds, in random order within a round. Between rounds at most one deadline
//! fires, so sleepers go on in order of their deadline. The clock moves a little with every poll,
//! so that whoever spins sees time pass, and jumps to the next deadline when nothing can run.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use walengine::runtime::Runtime;
use walengine_net::model::Timestamp;

use super::rng::{Rng, mix};

/// Wall clock at the start of a simulation: 2026-01-01, in nanoseconds since the Unix epoch.
const WALL_START_NANOS: u64 = 1_767_225_600_000_000_000;
/// Longest time that one poll takes, in nanoseconds.
const POLL_NANOS_MAX: u64 = 200;
/// Polls after which a simulation counts as running in circles.
const POLLS_MAX: u64 = 50_000_000;
const ROOT: u64 = 0;
/// Tells the stream of [`Runtime::random_u64`] from that of the schedule.
const DICE_SALT: u64 = 0x6a09_e667_f3bc_c908;

/// In which order tasks run that are ready at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As they were woken.
    Fifo,
    /// Drawn from the seed.
    Random,
}

/// Why [`SimExecutor::block_on`] ended without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// [`SimRuntime::halt`] was called: the power is off.
    Halted,
    /// Nothing can run and nobody sleeps: a wake-up was lost or never due.
    Stalled,
}

/// Owns the tasks. Dropping it drops them all where they stand, as a crash does.
pub struct SimExecutor {
    runtime: SimRuntime,
}

/// Handle to a [`SimExecutor`], for those who run on it. Tasks belong to the handle's *life*: the
/// whole simulation's, or that of one node in it.
#[derive(Clone)]
pub struct SimRuntime {
    core: Rc<Core>,
    life: Rc<Life>,
}

/// Of those who lose power together.
#[derive(Default)]
struct Life {
    halted: Cell<bool>,
    paused: Cell<bool>,
    /// How far its wall clock is ahead of the simulation's.
    wall_ahead_nanos: Cell<i64>,
    /// Tasks that were due in the pause.
    due: RefCell<Vec<Arc<TaskWaker>>>,
}

struct Core {
    order: Order,
    tasks: RefCell<BTreeMap<u64, Task>>,
    ready: Arc<Mutex<Vec<u64>>>,
    timers: RefCell<BTreeMap<TimerKey, Waker>>,
    rng: RefCell<Rng>,
    /// What the code under test draws; apart, so that its draws do not shift the schedule's.
    dice: RefCell<Rng>,
    /// Names tasks and timers in order of their making.
    made: Cell<u64>,
    now_nanos: Cell<u64>,
    wall_nanos: Cell<u64>,
    polls: Cell<u64>,
    polls_max: Cell<u64>,
    trace: Cell<u64>,
    /// The life of the whole simulation.
    life: Rc<Life>,
}

struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    waker: Arc<TaskWaker>,
    life: Rc<Life>,
}

struct TaskWaker {
    id: u64,
    queued: AtomicBool,
    ready: Arc<Mutex<Vec<u64>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            self.ready.lock().unwrap_or_else(PoisonError::into_inner).push(self.id);
        }
    }
}

/// In order of firing; the id tells apart what fires at the same time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct TimerKey {
    deadline_nanos: u64,
    id: u64,
}

impl SimExecutor {
    /// An executor whose every choice follows from `seed`.
    pub fn new(seed: u64, order: Order) -> Self {
        let core = Core {
            order,
            tasks: RefCell::default(),
            ready: Arc::default(),
            timers: RefCell::default(),
            rng: RefCell::new(Rng::new(seed)),
            dice: RefCell::new(Rng::new(mix(seed ^ DICE_SALT))),
            made: Cell::new(ROOT + 1),
            now_nanos: Cell::new(0),
            wall_nanos: Cell::new(WALL_START_NANOS),
            polls: Cell::new(0),
            polls_max: Cell::new(POLLS_MAX),
            trace: Cell::new(seed),
            life: Rc::default(),
        };
        let life = core.life.clone();
        Self { runtime: SimRuntime { core: Rc::new(core), life } }
    }

    /// Handle for the code under test.
    pub fn runtime(&self) -> SimRuntime {
        self.runtime.clone()
    }

    /// Hash over everything that happened so far: equal for equal seeds.
    pub fn trace(&self) -> u64 {
        self.runtime.core.trace.get()
    }

    /// Tasks that have not ended.
    pub fn tasks(&self) -> usize {
        self.runtime.core.tasks.borrow().len()
    }

    /// Runs `root`, and all tasks beside it, until `root` ends.
    pub fn block_on<T>(&self, root: impl Future<Output = T>) -> Result<T, Stopped> {
        let core = &self.runtime.core;
        let mut root = pin!(root);
        let root_waker = core.waker(ROOT);
        root_waker.clone().wake();
        loop {
            core.fire_one_deadline();
            let mut round = std::mem::take(&mut *core.lock_ready());
            if round.is_empty() {
                return Err(if core.life.halted.get() {
                    Stopped::Halted
                } else {
                    Stopped::Stalled
                });
            }
            if core.order == Order::Random {
                core.rng.borrow_mut().shuffle(&mut round);
            }
            let mut rest = round.into_iter();
            while let Some(id) = rest.next() {
                if core.life.halted.get() {
                    return Err(Stopped::Halted);
                }
                core.account_poll(id);
                if id != ROOT {
                    core.poll_task(id);
                    continue;
                }
                root_waker.queued.store(false, Ordering::Relaxed);
                let waker = Waker::from(root_waker.clone());
                if let Poll::Ready(output) = root.as_mut().poll(&mut Context::from_waker(&waker)) {
                    core.lock_ready().splice(..0, rest);
                    return Ok(output);
                }
            }
        }
    }
}

impl Drop for SimExecutor {
    fn drop(&mut self) {
        let core = &self.runtime.core;
        core.life.halted.set(true);
        // A task's drop may spawn; `halted` lets that come to nothing.
        let tasks = std::mem::take(&mut *core.tasks.borrow_mut());
        drop(tasks);
        let timers = std::mem::take(&mut *core.timers.borrow_mut());
        drop(timers);
    }
}

impl Core {
    fn lock_ready(&self) -> std::sync::MutexGuard<'_, Vec<u64>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waker(&self, id: u64) -> Arc<TaskWaker> {
        Arc::new(TaskWaker { id, queued: AtomicBool::new(false), ready: self.ready.clone() })
    }

    fn make_id(&self) -> u64 {
        self.made.replace(self.made.get() + 1)
    }

    /// Wakes the sleepers of the earliest deadline if it has passed, or if nothing else can run.
    fn fire_one_deadline(&self) {
        let idle = self.lock_ready().is_empty();
        let first = self.timers.borrow().first_key_value().map(|(key, _)| key.deadline_nanos);
        let Some(deadline_nanos) = first else { return };
        if !idle && deadline_nanos > self.now_nanos.get() {
            return;
        }
        self.now_nanos.set(self.now_nanos.get().max(deadline_nanos));
        let later = TimerKey { deadline_nanos: deadline_nanos.saturating_add(1), id: 0 };
        let mut timers = self.timers.borrow_mut();
        let rest = timers.split_off(&later);
        let due = std::mem::replace(&mut *timers, rest);
        drop(timers);
        for waker in due.into_values() {
            waker.wake();
        }
    }

    fn account_poll(&self, id: u64) {
        self.polls.set(self.polls.get() + 1);
        assert!(self.polls.get() < self.polls_max.get(), "the simulation runs in circles");
        let took_nanos = self.rng.borrow_mut().between(1, POLL_NANOS_MAX);
        self.now_nanos.set(self.now_nanos.get() + took_nanos);
        self.note(id);
        self.note(self.now_nanos.get());
    }

    fn note(&self, value: u64) {
        self.trace.set(mix(self.trace.get() ^ value).wrapping_add(1));
    }

    fn poll_task(&self, id: u64) {
        let Some(mut task) = self.tasks.borrow_mut().remove(&id) else { return };
        task.waker.queued.store(false, Ordering::Relaxed);
        if task.life.halted.get() {
            return drop(task); // after the borrow
        }
        if task.life.paused.get() {
            task.life.due.borrow_mut().push(task.waker.clone());
            self.tasks.borrow_mut().insert(id, task);
            return;
        }
        let waker = Waker::from(task.waker.clone());
        if task.future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            self.tasks.borrow_mut().insert(id, task);
        }
    }
}

impl SimRuntime {
    /// Power off: no task of this life runs any more. What runs right now goes on to its next await.
    pub fn halt(&self) {
        self.life.halted.set(true);
    }

    /// The power is off.
    pub fn halted(&self) -> bool {
        self.life.halted.get() || self.core.life.halted.get()
    }

    /// A handle with a life of its own, for a node in this simulation: it can halt while the others
    /// go on.
    #[must_use]
    pub fn node(&self) -> Self {
        Self { core: self.core.clone(), life: Rc::default() }
    }

    /// Stops the tasks of this life where they stand, or lets them go on. Time passes meanwhile.
    pub fn pause(&self, paused: bool) {
        self.life.paused.set(paused);
        if !paused {
            let due = std::mem::take(&mut *self.life.due.borrow_mut());
            due.into_iter().for_each(Wake::wake);
        }
    }

    /// It stands still.
    pub fn paused(&self) -> bool {
        self.life.paused.get()
    }

    /// Drops the tasks of lives that have halted, where they stand.
    pub fn bury(&self) {
        let dead: Vec<u64> = {
            let tasks = self.core.tasks.borrow();
            let dead = tasks.iter().filter(|(_, task)| task.life.halted.get());
            dead.map(|(id, _)| *id).collect()
        };
        for id in dead {
            let task = self.core.tasks.borrow_mut().remove(&id);
            drop(task); // after the borrow
        }
    }

    /// Polls after which the simulation counts as running in circles, instead of 50 million.
    pub fn allow_polls(&self, polls_max: u64) {
        self.core.polls_max.set(polls_max);
    }

    /// Moves the wall clock, forward or back; deadlines do not notice.
    pub fn jump_wall(&self, nanos: i64) {
        self.core.wall_nanos.set(self.core.wall_nanos.get().saturating_add_signed(nanos));
    }

    /// Moves the wall clock of this life only.
    pub fn set_own_wall(&self, ahead_nanos: i64) {
        self.life.wall_ahead_nanos.set(ahead_nanos);
    }

    /// Adds to the trace what happened outside the executor.
    pub(super) fn note(&self, value: u64) {
        self.core.note(value);
    }
}

/// A sleeper. Dropped, it leaves no timer behind: a stray wake-up could stand in for a lost one.
struct Sleep {
    core: Rc<Core>,
    deadline_nanos: u64,
    timer: Option<TimerKey>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // Never at the first poll: a sleep lets others run, however short it is.
        if self.timer.is_some() && self.core.now_nanos.get() >= self.deadline_nanos {
            return Poll::Ready(());
        }
        let key = self.timer.unwrap_or_else(|| TimerKey {
            deadline_nanos: self.deadline_nanos,
            id: self.core.make_id(),
        });
        self.timer = Some(key);
        let former = self.core.timers.borrow_mut().insert(key, context.waker().clone());
        drop(former); // after the borrow
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.timer {
            let waker = self.core.timers.borrow_mut().remove(&key);
            drop(waker); // after the borrow
        }
    }
}

impl Runtime for SimRuntime {
    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        if self.halted() {
            return;
        }
        let id = self.core.make_id();
        let waker = self.core.waker(id);
        let task = Task { future: Box::pin(task), waker: waker.clone(), life: self.life.clone() };
        self.core.tasks.borrow_mut().insert(id, task);
        waker.wake();
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> {
        let core = self.core.clone();
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let deadline_nanos = core.now_nanos.get().saturating_add(nanos);
        Sleep { core, deadline_nanos, timer: None }
    }

    fn yield_now(&self) -> impl Future<Output = ()> {
        let mut yielded = false;
        poll_fn(move |context| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
    }

    fn now(&self) -> Timestamp {
        let wall = self.core.wall_nanos.get().saturating_add(self.core.now_nanos.get());
        Timestamp(wall.saturating_add_signed(self.life.wall_ahead_nanos.get()))
    }

    fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.core.now_nanos.get())
    }

    fn random_u64(&self) -> u64 {
        self.core.dice.borrow_mut().next_u64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(seed: u64, order: Order) -> (Vec<u64>, u64) {
        let executor = SimExecutor::new(seed, order);
        let runtime = executor.runtime();
        let seen = Rc::new(RefCell::new(Vec::new()));
        for task in 0..20 {
            let (runtime, seen) = (executor.runtime(), seen.clone());
            executor.runtime().spawn(async move {
                runtime.yield_now().await;
                seen.borrow_mut().push(task);
            });
        }
        executor.block_on(async { runtime.sleep(Duration::from_secs(1)).await }).unwrap();
        (seen.take(), executor.trace())
    }

    #[test]
    fn same_seed_runs_the_same() {
        assert_eq!(run(7, Order::Random), run(7, Order::Random));
        assert_ne!(run(7, Order::Random).0, run(8, Order::Random).0);
        assert_eq!(run(7, Order::Fifo).0, (0..20).collect::<Vec<_>>());
        assert_ne!(run(7, Order::Fifo).1, run(8, Order::Fifo).1, "seeds differ in time at least");
    }

    #[test]
    fn sleepers_wake_in_order_of_deadline() {
        for seed in 0..50 {
            let executor = SimExecutor::new(seed, Order::Random);
            let runtime = executor.runtime();
            let seen = Rc::new(RefCell::new(Vec::new()));
            for micros in [50, 10, 40, 20, 30, 14, 17] {
                let (sleeper, seen) = (runtime.clone(), seen.clone());
                runtime.spawn(async move {
                    sleeper.sleep(Duration::from_micros(micros)).await;
                    assert!(sleeper.elapsed() >= Duration::from_micros(micros));
                    seen.borrow_mut().push(micros);
                });
            }
            executor.block_on(runtime.sleep(Duration::from_millis(1))).unwrap();
            assert_eq!(*seen.borrow(), [10, 14, 17, 20, 30, 40, 50], "seed {seed}");
        }
    }

    #[test]
    fn dropped_sleep_fires_no_more_and_polls_add_no_timers() {
        let executor = SimExecutor::new(1, Order::Random);
        let runtime = executor.runtime();
        let mut long = Box::pin(runtime.sleep(Duration::from_hours(1)));
        let mut short = Box::pin(runtime.sleep(Duration::from_secs(1)));
        let both = poll_fn(|context| {
            assert!(long.as_mut().poll(context).is_pending());
            let poll = short.as_mut().poll(context);
            context.waker().wake_by_ref();
            assert!(runtime.core.timers.borrow().len() <= 2);
            poll
        });
        executor.block_on(both).unwrap();
        drop(long);
        let end = executor.block_on(std::future::pending::<()>());
        assert_eq!(end, Err(Stopped::Stalled));
        assert!(runtime.elapsed() < Duration::from_secs(2), "no time passes for nobody");
    }

    #[test]
    fn drawn_numbers_follow_from_the_seed_and_leave_the_schedule_alone() {
        let draws = |seed, count| {
            let executor = SimExecutor::new(seed, Order::Random);
            let runtime = executor.runtime();
            let drawn: Vec<_> = (0..count).map(|_| runtime.random_u64()).collect();
            executor.block_on(runtime.sleep(Duration::from_secs(1))).unwrap();
            (drawn, executor.trace())
        };
        assert_eq!(draws(7, 5), draws(7, 5));
        assert_ne!(draws(7, 5).0, draws(8, 5).0);
        assert_eq!(draws(7, 0).1, draws(7, 5).1);
    }

    #[test]
    fn spinning_task_sees_time_pass_and_others_run() {
        let executor = SimExecutor::new(1, Order::Random);
        let runtime = executor.runtime();
        let woke = Rc::new(Cell::new(false));
        let (sleeper, flag) = (runtime.clone(), woke.clone());
        runtime.spawn(async move {
            sleeper.sleep(Duration::from_micros(5)).await;
            flag.set(true);
        });
        let spin = async {
            while !woke.get() {
                runtime.yield_now().await;
            }
        };
        assert_eq!(executor.block_on(spin), Ok(()));
    }

    #[test]
    fn lost_wake_up_is_a_stall() {
        let executor = SimExecutor::new(1, Order::Random);
        assert_eq!(executor.block_on(std::future::pending::<()>()), Err(Stopped::Stalled));
    }

    #[test]
    fn dropping_the_executor_drops_every_task() {
        struct SpawnsOnDrop(SimRuntime);
        impl Drop for SpawnsOnDrop {
            fn drop(&mut self) {
                self.0.spawn(async {});
            }
        }
        let executor = SimExecutor::new(1, Order::Random);
        let held = Rc::new(());
        for _ in 0..10 {
            let (held, spawns) = (held.clone(), SpawnsOnDrop(executor.runtime()));
            executor.runtime().spawn(async move {
                std::future::pending::<()>().await;
                drop((held, spawns));
            });
        }
        executor.block_on(executor.runtime().yield_now()).unwrap();
        assert_eq!((executor.tasks(), Rc::strong_count(&held)), (10, 11));
        drop(executor);
        assert_eq!(Rc::strong_count(&held), 1);
    }

    #[test]
    fn halted_executor_polls_nobody() {
        let executor = SimExecutor::new(1, Order::Fifo);
        let runtime = executor.runtime();
        let ran = Rc::new(Cell::new(0));
        let (halts, counts) = (runtime.clone(), ran.clone());
        runtime.spawn(async move {
            halts.halt();
            counts.set(1);
        });
        let counts = ran.clone();
        runtime.spawn(async move { counts.set(2) });
        let stopped = executor.block_on(runtime.sleep(Duration::from_secs(1)));
        assert_eq!((stopped, ran.get()), (Err(Stopped::Halted), 1));
    }
}
