//! Bytes on their way in and out, counted against the memory budget until they are really gone.
//!
//! Hyper keeps what it is given until the peer takes it, long after the body it came from was dropped. So the
//! charge travels with the bytes themselves.

use bytes::{Bytes, BytesMut};
use contract::{ByteBudget, Charge};

/// Below this the bookkeeping would weigh as much as the bytes.
const CHARGED_BYTES_MIN: usize = 1024;

struct Charged {
    bytes: Bytes,
    _charge: Charge,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The same bytes, not copied. They have arrived already, so they are counted even past the limit: then new
/// work is refused until they are gone.
pub fn charged(bytes: Bytes, budget: &ByteBudget) -> Bytes {
    if bytes.len() < CHARGED_BYTES_MIN {
        return bytes;
    }
    let charge = budget.charge_always(bytes.len());
    Bytes::from_owner(Charged { bytes, _charge: charge })
}

/// Makes room in `body` for `more` bytes on its way to `need` at most, charged; false when the budget has none. Grows by
/// doubling, so that a large body is moved a few times at most, and never ahead of what has arrived by more than that.
pub fn room(body: &mut BytesMut, need: usize, more: usize, charge: &mut Charge) -> bool {
    let wanted = body.len() + more;
    if body.capacity() >= wanted {
        return true;
    }
    let capacity = wanted.max(2 * body.capacity()).min(need.max(wanted));
    if !charge.grow_arriving(capacity.saturating_sub(charge.bytes())) {
        return false;
    }
    body.reserve(capacity - body.len());
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_until_the_last_slice_is_gone() {
        let budget = ByteBudget::new(10);
        let bytes = charged(vec![0; 2000].into(), &budget);
        let slice = bytes.slice(..5);
        drop(bytes);
        assert_eq!(budget.used(), 2000);
        drop(slice);
        assert_eq!(budget.used(), 0);
        assert_eq!(charged(Bytes::from_static(b"small"), &budget), "small");
    }
}
