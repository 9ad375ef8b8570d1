//! A thin layer over epoll: which connections can go on. Level-triggered.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

/// Connections told of in one call.
const EVENTS_MAX: u8 = 255;

/// Watches sockets; each has a number.
pub struct Poll {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Poll {
    /// Watches nothing yet.
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes a flag, gives a descriptor or -1.
        let epoll = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the descriptor is new, and nobody else has it.
        let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
        Ok(Self {
            epoll,
            events: vec![libc::epoll_event { events: 0, u64: 0 }; usize::from(EVENTS_MAX)],
        })
    }

    /// Tells from now on when there is something to read.
    pub fn add(&self, socket: &impl AsRawFd, number: usize) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, socket.as_raw_fd(), number, libc::EPOLLIN)
    }

    /// Tells from now on when there is something to read, and if `writing` also when there is room.
    pub fn change(&self, socket: &impl AsRawFd, number: usize, writing: bool) -> io::Result<()> {
        let room = if writing { libc::EPOLLOUT } else { 0 };
        self.control(libc::EPOLL_CTL_MOD, socket.as_raw_fd(), number, libc::EPOLLIN | room)
    }

    fn control(&self, call: i32, socket: RawFd, number: usize, wanted: i32) -> io::Result<()> {
        let mut event = libc::epoll_event { events: wanted.cast_unsigned(), u64: number as u64 };
        // SAFETY: `event` outlives the call, which keeps a copy; both descriptors are open.
        check(unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), call, socket, &raw mut event) })?;
        Ok(())
    }

    /// Waits until a socket can go on or `timeout` is over; `None` is for ever. How many can.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let timeout = timeout.map(|timeout| libc::timespec {
            tv_sec: timeout.as_secs().cast_signed(),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        });
        let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: `events` is memory for EVENTS_MAX events, `timeout` is null or lives on; no signal
        // mask is given.
        let found = unsafe {
            libc::epoll_pwait2(
                self.epoll.as_raw_fd(),
                self.events.as_mut_ptr(),
                i32::from(EVENTS_MAX),
                timeout,
                ptr::null(),
            )
        };
        match check(found) {
            Ok(found) => Ok(usize::try_from(found).unwrap_or(0)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Number of the `place`-th socket of the last [`Poll::wait`], and whether it has room.
    pub fn ready(&self, place: usize) -> (usize, bool) {
        let event = self.events[place];
        (event.u64 as usize, event.events & libc::EPOLLOUT.cast_unsigned() != 0)
    }
}

/// Lets this thread's timeouts end when they should, and not up to 50 us later.
pub fn sharpen_timers() {
    // SAFETY: sets a number of the calling thread. If it is refused, timeouts are only less sharp.
    let _ = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_u64) };
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
