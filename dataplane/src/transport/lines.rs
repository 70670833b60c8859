//! The connections on which one source is open: never more than may be.

use std::{
    cell::RefCell,
    rc::{Rc, Weak},
};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::{choose::Kind, line::Line};

/// See the module.
pub struct Lines {
    open: RefCell<Vec<Rc<Line>>>,
    /// One of another transport that was busy when it had to make room: it answers what it was asked, and nothing more.
    retiring: RefCell<Weak<Line>>,
    /// A permit for each that is made at a time.
    opening: Semaphore,
    max: usize,
}

impl Lines {
    /// With the first one, of at most `max`.
    pub fn new(first: Rc<Line>, max: usize) -> Self {
        let (open, retiring) = (RefCell::new(vec![first]), RefCell::default());
        Self { open, retiring, opening: Semaphore::new(max), max }
    }

    /// Waits for leave to make one more: as many at a time as there may be.
    pub async fn leave(&self) -> SemaphorePermit<'_> {
        self.opening.acquire().await.expect("it is never closed")
    }

    /// One more was made.
    pub fn add(&self, line: Rc<Line>) {
        self.open.borrow_mut().push(line);
    }

    /// The line to ask on, over this transport if possible: the one with the fewest questions that is not doubted. None
    /// where one more line is better. `permits`: those of whoever asks.
    ///
    /// Where there are as many as may be, those of another transport make room: whichever is not asked anything, and where
    /// none of this one is there yet, one that is. As long as that has answers to give, there is one more.
    pub fn best(&self, kind: Kind, permits: usize) -> Option<Rc<Line>> {
        let mut open = self.open.borrow_mut();
        open.retain(|line| !line.is_broken());
        let opening = self.max - self.opening.available_permits() - permits;
        let mut may_open = open.len() + opening < self.max;
        if !may_open && let Some(place) = self.place(&open, kind, opening) {
            *self.retiring.borrow_mut() = Rc::downgrade(&open.swap_remove(place));
            may_open = true;
        }
        let order = |line: &&Rc<Line>| (line.is_doubted(), line.asked());
        let best = open.iter().filter(|line| line.kind == kind).min_by_key(order);
        match best {
            Some(best) if best.asked() == 0 || !may_open => Some(best.clone()),
            _ if may_open => None,
            _ => open.iter().min_by_key(order).cloned(),
        }
    }

    /// The line that makes room for one over this transport.
    fn place(&self, open: &[Rc<Line>], kind: Kind, opening: usize) -> Option<usize> {
        let others = || open.iter().enumerate().filter(|(_, line)| line.kind != kind);
        let unused = others().find(|(_, line)| line.asked() == 0);
        let is_first = opening == 0 && open.iter().all(|line| line.kind != kind);
        let busy = || others().min_by_key(|(_, line)| line.asked()).filter(|_| is_first);
        let may_retire = self.retiring.borrow().strong_count() == 0;
        let place = unused.or_else(|| busy().filter(|_| may_retire));
        place.map(|(index, _)| index)
    }

    /// One was found to be gone. What happened to one most likely happened to all: those that wait to be asked are not
    /// believed, the others when there is a choice.
    pub fn doubt(&self) {
        let mut open = self.open.borrow_mut();
        open.retain(|line| line.asked() > 0);
        open.iter().for_each(|line| line.doubt());
    }

    /// The line with the fewest questions of those that are there.
    pub fn any(&self) -> Option<Rc<Line>> {
        let open = self.open.borrow();
        let usable = open.iter().filter(|line| !line.is_broken() && !line.is_doubted());
        usable.min_by_key(|line| line.asked()).cloned()
    }

    /// Takes out one that is asked nothing: from now on it is not among them.
    pub fn spare(&self) -> Option<Rc<Line>> {
        let mut open = self.open.borrow_mut();
        let place = open.iter().position(|line| !line.is_broken() && !line.is_doubted() && line.asked() == 0)?;
        Some(open.swap_remove(place))
    }

    /// All of them, for the last time.
    pub fn take(&self) -> Vec<Rc<Line>> {
        std::mem::take(&mut *self.open.borrow_mut())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt as _;
    use staccato_protocols::CRC_BLOCK;

    use super::{
        super::{
            connection::Connection,
            frame::{Frame, VERSIONS},
            gauge::Gauge,
            line::Wire,
            spoken::Spoken,
            tcp::Tcp,
            way::Way,
        },
        *,
    };

    fn line(kind: Kind) -> Rc<Line> {
        let mut hello = Vec::new();
        Frame::Hello { versions: VERSIONS, crc_block: CRC_BLOCK as u32 }.encode(&mut hello);
        let bytes = hello.len();
        let silent = Spoken::new(hello, bytes).without_end();
        let begun = Connection::begin(Box::new(silent), "owner".into()).now_or_never();
        let connection = begun.expect("the greeting is there").expect("and right");
        let way = Way::over(Arc::new(Tcp::plain("127.0.0.1:1".parse().unwrap())));
        Rc::new(Line::new(kind, way, Wire::new(connection, Gauge::default())))
    }

    #[test]
    fn there_are_as_many_as_may_be_also_while_another_transport_takes_over() {
        glommio::LocalExecutorBuilder::default().make().unwrap().run(async {
            let tcp = line(Kind::Tcp);
            let lines = Lines::new(tcp.clone(), 2);
            let is = is_one;
            assert!(is(lines.best(Kind::Tcp, 0), &tcp), "it is asked nothing");
            let mut asked = tcp.revalidate().boxed_local();
            assert!((&mut asked).now_or_never().is_none());
            assert!(lines.best(Kind::Tcp, 0).is_none(), "one more is better");
            let other = line(Kind::Tcp);
            lines.add(other.clone());
            assert!(is(lines.best(Kind::Tcp, 0), &other));

            // Over QUIC from now on: the one that is asked nothing makes room.
            assert!(lines.best(Kind::Quic, 0).is_none());
            drop(other);
            let permit = lines.leave().await;
            assert!(lines.best(Kind::Quic, 1).is_none(), "its place is that of whoever asks");
            assert!(is(lines.best(Kind::Quic, 0), &tcp), "there is no place for a third, and only this one is there");
            let quic = line(Kind::Quic);
            lines.add(quic.clone());
            drop(permit);
            assert!(is(lines.best(Kind::Quic, 0), &quic));
            let mut asked_too = quic.revalidate().boxed_local();
            assert!((&mut asked_too).now_or_never().is_none());
            assert!(is(lines.best(Kind::Quic, 0), &quic), "there is no third");
            drop(asked);
            assert!(lines.best(Kind::Quic, 0).is_none(), "what was given up is broken, and makes room");
            assert_eq!(lines.take().len(), 1);
        });
    }

    #[test]
    fn another_transport_takes_over_although_every_line_is_busy() {
        glommio::LocalExecutorBuilder::default().make().unwrap().run(async {
            let old = [line(Kind::Tcp), line(Kind::Tcp)];
            let lines = Lines::new(old[0].clone(), 2);
            lines.add(old[1].clone());
            let mut asked: Vec<_> = old.iter().chain(&old).map(|line| line.revalidate().boxed_local()).collect();
            asked.iter_mut().for_each(|asked| assert!(asked.now_or_never().is_none()));
            assert!(lines.best(Kind::Quic, 0).is_none(), "one of them answers to its end, and is asked no more");
            let permit = lines.leave().await;
            assert!(lines.best(Kind::Quic, 1).is_none());
            let quic = line(Kind::Quic);
            lines.add(quic.clone());
            drop(permit);
            let mut asked_too = quic.revalidate().boxed_local();
            assert!((&mut asked_too).now_or_never().is_none());
            assert!(is_one(lines.best(Kind::Quic, 0), &quic), "there is no place for another one");
            assert!(lines.open.borrow().len() <= 2);
        });
    }

    fn is_one(best: Option<Rc<Line>>, line: &Rc<Line>) -> bool {
        best.is_some_and(|best| Rc::ptr_eq(&best, line))
    }
}
