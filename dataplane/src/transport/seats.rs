//! How many connections each address has: no address shall have all of them.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// Seats for connections, so many for each address at most (IPv6: for each network of 64 bits). Cheap to clone.
#[derive(Clone)]
pub struct Seats {
    each_max: usize,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A connection that counts for its address until this is dropped.
pub struct Seat {
    seats: Seats,
    of: IpAddr,
}

impl Seats {
    /// At most so many for each address.
    pub fn new(each_max: usize) -> Self {
        Self { each_max, taken: Arc::default() }
    }

    /// A seat for one more connection; none where its address has too many.
    pub fn seat(&self, from: IpAddr) -> Option<Seat> {
        let of = match from.to_canonical() {
            // Whoever has one address there has all of its network.
            IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
            v4 => v4,
        };
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(of).or_default();
        (*count < self.each_max).then(|| {
            *count += 1;
            Seat { seats: self.clone(), of }
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = taken.entry(self.of) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_has_all_connections() {
        const EACH_MAX: usize = 256;
        let seats = Seats::new(EACH_MAX);
        let network: [IpAddr; 2] = ["2001:db8::1", "2001:db8::ffff:2"].map(|text| text.parse().unwrap());
        let v4: [IpAddr; 2] = ["192.0.2.1", "::ffff:192.0.2.1"].map(|text| text.parse().unwrap());
        for alike in [network, v4] {
            let taken: Vec<_> = (0..EACH_MAX).map(|number| seats.seat(alike[number % 2]).unwrap()).collect();
            assert!(alike.iter().all(|from| seats.seat(*from).is_none()));
            assert!(seats.seat("192.0.2.2".parse().unwrap()).is_some());
            drop(taken);
            assert!(seats.seat(alike[0]).is_some());
        }
        assert!(seats.taken.lock().unwrap().is_empty(), "what is over takes no memory");
    }
}
