//! A thin layer over epoll: tells which connections can be read or written. Level-triggered.

use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::Timespec;

/// Connections that one call can report.
const EVENTS_MAX: usize = 255;

/// Watches sockets; each has a number.
pub struct Poll {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl Poll {
    /// Watches nothing yet.
    pub fn new() -> io::Result<Self> {
        let none = Event { flags: EventFlags::empty(), data: EventData::new_u64(0) };
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)?, events: vec![none; EVENTS_MAX] })
    }

    /// Reports from now on when the socket can be read.
    pub fn add(&self, socket: &impl AsFd, number: usize) -> io::Result<()> {
        let data = EventData::new_u64(number as u64);
        Ok(epoll::add(&self.epoll, socket, data, EventFlags::IN)?)
    }

    /// Reports from now on when the socket can be read and, with `writing`, when it can be written.
    pub fn change(&self, socket: &impl AsFd, number: usize, writing: bool) -> io::Result<()> {
        let room = if writing { EventFlags::OUT } else { EventFlags::empty() };
        let data = EventData::new_u64(number as u64);
        Ok(epoll::modify(&self.epoll, socket, data, EventFlags::IN | room)?)
    }

    /// Waits until a socket is ready or `timeout` is over. Returns how many are ready.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<usize> {
        let timeout = Timespec {
            tv_sec: timeout.as_secs().cast_signed(),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        match epoll::wait(&self.epoll, &mut self.events[..], Some(&timeout)) {
            Ok(ready) => Ok(ready),
            Err(Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Number of the `place`-th socket of the last [`Poll::wait`], and whether it can be written.
    pub fn ready(&self, place: usize) -> (usize, bool) {
        let Event { flags, data } = self.events[place];
        (data.u64() as usize, flags.contains(EventFlags::OUT))
    }
}

/// Lets this thread's timeouts end on time; by default they may end 50 us late.
pub fn sharpen_timers() {
    // If it is refused, timeouts are only less sharp.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
}
