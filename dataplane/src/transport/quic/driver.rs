//! Turns an endpoint's [`Port`] on a glommio lane.
//!
//! As long as there is anything to do, the driver does it, a turn at a time, and lets others on the lane run between two
//! turns. Only when a whole turn has found nothing does it wait: for a datagram, for a time, or for a stream that wants
//! something. glommio has no way to wait for a socket without reading from it; peeking at one byte serves. That is left to
//! a task of its own, because a future of glommio's keeps one more waker each time it is polled.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use glommio::{net::UdpSocket, timer::Timer};

use super::port::{Port, SharedLink};

/// How long last bytes of streams may take to leave, after everybody has let go of the endpoint.
const FINISH_TIMEOUT: Duration = Duration::from_secs(20);
/// How long connections may take to end in order: a goodbye that was lost is said again while somebody still speaks.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(500);
/// How long not to wait for datagrams when that has failed.
const RETRY_WAIT: Duration = Duration::from_millis(1);

/// What the driver shares with the endpoint's users.
pub struct Shared {
    pub port: RefCell<Port>,
    /// Those that streams have found something to do for, while `port` may be at work.
    asked: RefCell<Vec<SharedLink>>,
    driver: Cell<Option<Waker>>,
    stage: Cell<Stage>,
    /// Who waits for the end.
    closers: RefCell<Vec<Waker>>,
    /// Whether the driver waits for datagrams.
    listening: Cell<bool>,
    listener: Cell<Option<Waker>>,
}

/// How far it has come with its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Working,
    /// What was written still leaves.
    Finishing {
        until: Instant,
    },
    /// Goodbye is said.
    Closing {
        until: Instant,
    },
    Ended,
}

impl Shared {
    pub fn new(port: Port) -> Rc<Self> {
        Rc::new(Self {
            port: RefCell::new(port),
            asked: RefCell::default(),
            driver: Cell::default(),
            stage: Cell::new(Stage::Working),
            closers: RefCell::default(),
            listening: Cell::new(false),
            listener: Cell::default(),
        })
    }

    /// There is something to do for a connection.
    pub fn ask(&self, link: &SharedLink) {
        if !std::mem::replace(&mut link.borrow_mut().ready, true) {
            self.asked.borrow_mut().push(link.clone());
            self.wake();
        }
    }

    /// There is something to do.
    pub fn wake(&self) {
        if let Some(waker) = self.driver.take() {
            waker.wake();
        }
    }

    /// Begins the end; `finish`: with what was written still to leave.
    pub fn begin_end(&self, finish: bool) {
        self.port.borrow_mut().closing = true;
        if self.stage.get() == Stage::Working {
            let patience = if finish { FINISH_TIMEOUT } else { GOODBYE_TIMEOUT };
            self.stage.set(Stage::Finishing { until: Instant::now() + patience });
        }
        self.wake();
    }

    /// Ends without a word, as a process that is killed.
    #[cfg(test)]
    pub fn vanish(&self) {
        self.stage.set(Stage::Ended);
    }

    /// Whether the end has begun.
    pub fn is_ending(&self) -> bool {
        self.stage.get() != Stage::Working
    }

    /// Waits for the end.
    pub async fn ended(&self) {
        poll_fn(|context| {
            if self.stage.get() == Stage::Ended {
                return Poll::Ready(());
            }
            self.closers.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Goes on with the end; whether it is reached.
    fn advance_end(&self) -> bool {
        let now = Instant::now();
        let mut port = self.port.borrow_mut();
        if let Stage::Finishing { until } = self.stage.get()
            && (now >= until || !port.links().any(|link| link.borrow().is_finishing()))
        {
            port.say_goodbye();
            self.stage.set(Stage::Closing { until: now + GOODBYE_TIMEOUT });
        }
        match self.stage.get() {
            Stage::Closing { until } => now >= until || port.links().next().is_none(),
            Stage::Working | Stage::Finishing { .. } => false,
            Stage::Ended => true,
        }
    }

    /// Until when there is nothing to do.
    fn idle_until(&self) -> Option<Instant> {
        let end = match self.stage.get() {
            Stage::Finishing { until } | Stage::Closing { until } => Some(until),
            Stage::Working | Stage::Ended => None,
        };
        self.port.borrow().idle_until().into_iter().chain(end).min()
    }
}

/// Starts the driver of an endpoint, on the current task queue.
pub fn start(shared: Rc<Shared>) -> io::Result<()> {
    let socket = shared.port.borrow().socket.for_waiting()?;
    glommio::spawn_local(listen(shared.clone(), socket)).detach();
    glommio::spawn_local(Driver { shared, timer: None }).detach();
    Ok(())
}

/// Waits for datagrams, whenever the driver has asked for it.
async fn listen(shared: Rc<Shared>, socket: UdpSocket) {
    loop {
        let asked = poll_fn(|context| {
            if shared.stage.get() == Stage::Ended {
                return Poll::Ready(false);
            }
            if shared.listening.get() {
                return Poll::Ready(true);
            }
            shared.listener.set(Some(context.waker().clone()));
            Poll::Pending
        });
        if !asked.await {
            return;
        }
        // What comes meanwhile waits in the socket's buffer.
        let pause = shared.port.borrow().pause();
        if !pause.is_zero() {
            Timer::new(pause).await;
        }
        // What comes is read by the driver. (`peek` wants a connected socket, `peek_from` does not.)
        if let Err(error) = socket.peek_from(&mut [0]).await {
            tracing::debug!(%error, "waiting for datagrams failed");
            Timer::new(RETRY_WAIT).await;
        }
        shared.listening.set(false);
        shared.wake();
    }
}

struct Driver {
    shared: Rc<Shared>,
    timer: Option<Timer>,
}

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let shared = &this.shared;
        if shared.is_ending() && shared.advance_end() {
            shared.stage.set(Stage::Ended);
            shared.closers.borrow_mut().drain(..).for_each(Waker::wake);
            // Whoever listens hears of it, in either place.
            if let Some(listener) = shared.listener.take() {
                listener.wake();
            }
            if let Err(error) = shared.port.borrow().socket.wake() {
                tracing::debug!(%error, "a port cannot be closed in order");
            }
            return Poll::Ready(());
        }
        let worked = {
            let mut port = shared.port.borrow_mut();
            port.take_up(&mut shared.asked.borrow_mut());
            port.turn()
        };
        if worked {
            // Others first: they read what has come, and write what shall leave.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        shared.driver.set(Some(context.waker().clone()));
        if !shared.listening.replace(true)
            && let Some(listener) = shared.listener.take()
        {
            listener.wake();
        }
        this.timer = shared.idle_until().map(|until| Timer::new(until.saturating_duration_since(Instant::now())));
        if let Some(timer) = &mut this.timer
            && Pin::new(timer).poll(context).is_ready()
        {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }
}
