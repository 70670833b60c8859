//! A network of links that each serve one segment at a time: pure, in virtual time.
//!
//! A chunk crosses its path in segments. Each link serves the flows that have segments waiting there in turns, and of each
//! flow only so many segments are on their way at a time. Round robin with windows gives every flow its max-min fair share
//! (Hahne, Round-robin scheduling for max-min fairness in data networks, 1991), without computing one: what a flow cannot
//! use on one link, others have there. Left out: headers, losses, and the time in which a real window opens.

use std::collections::VecDeque;

/// Segments of a chunk.
const SEGMENTS: u16 = 16;
/// Segments of a flow on their way.
const WINDOW: u16 = 4;
/// Links on the longest path: out of a host, of its rack, through the core, into a rack, into a host.
pub const HOPS_MAX: usize = 5;

/// One of the links.
pub type LinkId = u32;
/// One of the flows, while it is there.
pub type FlowId = u32;

/// See the module. Times are nanoseconds.
#[derive(Debug)]
pub struct Network {
    links: Vec<Link>,
    flows: Vec<Flow>,
    free: Vec<FlowId>,
    chunk_bytes: u64,
}

#[derive(Debug)]
struct Link {
    segment_nanos: u64,
    waiting: VecDeque<(FlowId, u8)>,
    /// The segment that is being served.
    serves: Option<(FlowId, u8)>,
}

#[derive(Clone, Debug)]
struct Flow {
    path: [LinkId; HOPS_MAX],
    hops: u8,
    /// Segments that wait at each hop, or are served there.
    at_hop: [u16; HOPS_MAX],
    /// Segments that have not set out.
    left: u16,
    arrived: u16,
    dropped: bool,
    /// Places in links' queues.
    places: u8,
}

/// What came of a link's having served a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// It moved on, or was dropped.
    Segment,
    /// It was the last one of this flow, which is no more.
    LastOf(FlowId),
}

impl Network {
    /// Links of these rates in bytes per second, for chunks of this size.
    pub fn new(rates: impl IntoIterator<Item = f64>, chunk_bytes: u64) -> Self {
        let segment_bytes = chunk_bytes as f64 / f64::from(SEGMENTS);
        let link = |rate: f64| Link {
            segment_nanos: ((segment_bytes / rate * 1e9) as u64).max(1),
            waiting: VecDeque::new(),
            serves: None,
        };
        Self { links: rates.into_iter().map(link).collect(), flows: Vec::new(), free: Vec::new(), chunk_bytes }
    }

    /// A chunk sets out. `wake` is called for each link that begins to serve a segment, with the time that this takes: then
    /// [`served`](Self::served) is to be called for it.
    pub fn begin(&mut self, path: &[LinkId], wake: &mut impl FnMut(LinkId, u64)) -> FlowId {
        let mut flow = Flow {
            path: [0; HOPS_MAX],
            hops: path.len() as u8,
            at_hop: [0; HOPS_MAX],
            left: SEGMENTS - WINDOW,
            arrived: 0,
            dropped: false,
            places: 0,
        };
        flow.path[..path.len()].copy_from_slice(path);
        let id = match self.free.pop() {
            Some(id) => {
                self.flows[id as usize] = flow;
                id
            }
            None => {
                self.flows.push(flow);
                self.flows.len() as FlowId - 1
            }
        };
        self.arrive(id, 0, WINDOW, wake);
        id
    }

    /// The link has served its segment.
    pub fn served(&mut self, link: LinkId, wake: &mut impl FnMut(LinkId, u64)) -> Served {
        let (id, hop) = self.links[link as usize].serves.take().expect("a link is done with what it serves");
        let served = self.move_on(id, hop, wake);
        self.serve(link, wake);
        served
    }

    fn move_on(&mut self, id: FlowId, hop: u8, wake: &mut impl FnMut(LinkId, u64)) -> Served {
        let flow = &mut self.flows[id as usize];
        flow.places -= 1;
        if flow.dropped {
            self.forget(id);
            return Served::Segment;
        }
        flow.at_hop[hop as usize] -= 1;
        if flow.at_hop[hop as usize] > 0 {
            flow.places += 1;
            self.links[flow.path[hop as usize] as usize].waiting.push_back((id, hop));
        }
        if hop + 1 < flow.hops {
            self.arrive(id, hop + 1, 1, wake);
            return Served::Segment;
        }
        flow.arrived += 1;
        if flow.arrived == SEGMENTS {
            flow.dropped = true;
            self.forget(id);
            return Served::LastOf(id);
        }
        if flow.left > 0 {
            flow.left -= 1;
            self.arrive(id, 0, 1, wake);
        }
        Served::Segment
    }

    /// Segments come to a hop.
    fn arrive(&mut self, id: FlowId, hop: u8, segments: u16, wake: &mut impl FnMut(LinkId, u64)) {
        let flow = &mut self.flows[id as usize];
        let before = flow.at_hop[hop as usize];
        flow.at_hop[hop as usize] += segments;
        if before == 0 {
            flow.places += 1;
            let link = flow.path[hop as usize];
            self.links[link as usize].waiting.push_back((id, hop));
            self.serve(link, wake);
        }
    }

    /// The link takes the next segment, if it serves none.
    fn serve(&mut self, id: LinkId, wake: &mut impl FnMut(LinkId, u64)) {
        let link = &mut self.links[id as usize];
        while link.serves.is_none() {
            let Some((flow, hop)) = link.waiting.pop_front() else { return };
            if self.flows[flow as usize].dropped {
                self.flows[flow as usize].places -= 1;
                let flow_is_free = self.flows[flow as usize].places == 0;
                if flow_is_free {
                    self.free.push(flow);
                }
                continue;
            }
            link.serves = Some((flow, hop));
            wake(id, link.segment_nanos);
        }
    }

    /// A flow is given up; the bytes of it that had arrived. Its segments vanish when their turn comes.
    pub fn give_up(&mut self, id: FlowId) -> u64 {
        let flow = &mut self.flows[id as usize];
        assert!(!flow.dropped, "a flow is given up once");
        flow.dropped = true;
        let arrived = u64::from(flow.arrived);
        self.forget(id);
        self.chunk_bytes * arrived / u64::from(SEGMENTS)
    }

    /// A flow that is dropped is free once no link knows it.
    fn forget(&mut self, id: FlowId) {
        if self.flows[id as usize].places == 0 {
            self.free.push(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Runs flows that begin at once to their ends; when each ended, in seconds, in the order of their paths.
    fn run(rates: &[f64], paths: &[&[LinkId]]) -> Vec<f64> {
        const CHUNK: u64 = 1_600_000;
        let mut network = Network::new(rates.iter().copied(), CHUNK);
        let mut events = BTreeMap::new();
        let (mut now, mut sequence) = (0, 0);
        let mut woken = Vec::new();
        let mut ids = Vec::new();
        let mut ends = vec![0.0; paths.len()];
        for path in paths {
            ids.push(network.begin(path, &mut |link, nanos| woken.push((link, nanos))));
        }
        loop {
            for (link, nanos) in woken.drain(..) {
                sequence += 1;
                events.insert((now + nanos, sequence), link);
            }
            let Some(((at, _), link)) = events.pop_first() else { return ends };
            now = at;
            if let Served::LastOf(flow) = network.served(link, &mut |link, nanos| woken.push((link, nanos))) {
                ends[ids.iter().position(|id| *id == flow).unwrap()] = at as f64 / 1e9;
            }
        }
    }

    #[test]
    fn a_chunk_takes_its_bytes_over_the_slowest_link() {
        // 1.6 MB at 1.6 MB/s; a sixteenth more until the first segment has come to the second link.
        assert_eq!(run(&[1.6e6, 16e6], &[&[0, 1]]), [1.00625]);
        assert_eq!(run(&[1.6e6, 1.6e6], &[&[0, 1]]), [1.0625]);
    }

    #[test]
    fn shares_are_max_min_fair() {
        // Two flows share the first link; the second of them gets no more than a tenth through the other one, and the first
        // has what is left, once the other's window stands before the slow one.
        let ends = run(&[1.6e6, 0.16e6, 16e6], &[&[0, 2], &[0, 1]]);
        assert!((1.11..1.35).contains(&ends[0]), "{ends:?}");
        assert!((9.9..10.2).contains(&ends[1]), "{ends:?}");
        let ends = run(&[1.6e6, 16e6, 16e6], &[&[0, 1], &[0, 2]]);
        assert!(ends.iter().all(|end| (1.9..2.1).contains(end)), "{ends:?}");
    }

    #[test]
    fn what_is_given_up_takes_no_more_of_a_link() {
        let mut network = Network::new([1.0], 16);
        let mut woken = 0;
        let first = network.begin(&[0], &mut |_, _| woken += 1);
        let second = network.begin(&[0], &mut |_, _| woken += 1);
        assert_eq!((woken, network.give_up(first)), (1, 0));
        // What was being served is served; then only the second one's.
        for _ in 0..SEGMENTS {
            assert_eq!(network.served(0, &mut |_, _| woken += 1), Served::Segment);
        }
        assert_eq!(network.served(0, &mut |_, _| woken += 1), Served::LastOf(second));
        assert_eq!(woken, 17);
        assert_eq!(network.begin(&[0], &mut |_, _| {}), second, "ids are used again");
    }
}
