//! The byte budget, as a backend knows it: what it holds for peers is charged there, once it was told where.
//!
//! A backend is opened before the rules are made that say what memory there is. So it holds a place for the budget, which
//! is filled once, and what comes before that is not charged.

use std::sync::{Arc, OnceLock};

use contract::{ByteBudget, Charge, Error, Kind, Outcome};

/// The place for the budget. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory(Arc<OnceLock<ByteBudget>>);

impl Memory {
    /// Charges to `budget` from now on. Who comes second changes nothing.
    pub(crate) fn charge_to(&self, budget: &ByteBudget) {
        self.0.get_or_init(|| budget.clone());
    }

    /// The budget, if it is known.
    pub(crate) fn budget(&self) -> Option<&ByteBudget> {
        self.0.get()
    }

    /// Takes what has happened, even past the limit.
    pub(crate) fn charge_always(&self, bytes: usize) -> Option<Charge> {
        self.budget().map(|budget| budget.charge_always(bytes))
    }

    /// Whether an answer of so many bytes may be kept.
    pub(crate) fn fits(&self, bytes: usize) -> bool {
        self.budget().is_none_or(|budget| budget.fits(bytes))
    }
}

/// The request was done, and its answer is not kept.
pub(crate) fn no_room() -> Error {
    let error = Error::new(Kind::Overloaded, "the answer came, and the gateway has no memory for it");
    error.with_outcome(Outcome::Done)
}
