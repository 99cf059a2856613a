//! The allowances of one policy: one for the gateway, or one for each key.

use std::fmt::Debug;
use std::time::Duration;

use super::key::Key;
use super::keys::Keys;

/// How one kind of allowance is counted in a cell.
pub(super) trait Kind: Debug {
    /// What is counted; its default is a whole allowance.
    type Cell: Default + Debug;

    /// Whether there is room; changes nothing.
    fn look(&self, cell: &Self::Cell, now_nanos: u64) -> Result<(), Full>;

    /// Takes one, if there is room.
    fn take(&self, cell: &Self::Cell, now_nanos: u64) -> Result<(Standing, Mark), Full>;

    /// Undoes a take, unless that could hand out more than there is.
    fn undo(&self, cell: &Self::Cell, mark: Mark);

    /// The cell of a new key, given the one that it may have shared until now.
    fn fresh(&self, shared: &Self::Cell) -> Self::Cell;

    /// Whether the cell is as good as a new one, and may be forgotten.
    fn is_whole(&self, cell: &Self::Cell, now_nanos: u64) -> bool;
}

/// What is left after taking one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// So many more could be taken now.
    pub(super) remaining: u64,
    /// When the allowance is whole again or, with nothing remaining, has room again; `None` if
    /// that is not a matter of time.
    pub(super) wait: Option<Duration>,
}

/// What a take has changed in its cell; means nothing where takes are only counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) before_nanos: u64,
    pub(super) after_nanos: u64,
}

/// One was taken: what is left, and what has to be known to undo it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) standing: Standing,
    pub(super) place: Place,
    pub(super) mark: Mark,
}

/// There is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full {
    /// When there may be; zero if nobody knows.
    pub(super) wait: Duration,
}

/// Where the cell is that something was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The cell of the key, or of the gateway.
    Own,
    /// The cell that keys beyond `max_keys` share.
    Shared,
}

/// The cells of one policy.
#[derive(Debug)]
pub(super) struct Allowances<K: Kind> {
    kind: K,
    cells: Cells<K::Cell>,
}

#[derive(Debug)]
enum Cells<C> {
    One(C),
    PerKey(Keys<C>),
}

impl<K: Kind> Allowances<K> {
    /// One allowance for the whole gateway.
    pub(super) fn of_gateway(kind: K) -> Self {
        Self {
            kind,
            cells: Cells::One(K::Cell::default()),
        }
    }

    /// One for each key, and one for all keys beyond `max_keys`.
    pub(super) fn per_key(kind: K, max_keys: usize) -> Self {
        Self {
            kind,
            cells: Cells::PerKey(Keys::new(max_keys)),
        }
    }

    /// Whether there is room for the key; creates nothing.
    pub(super) fn look(&self, key: &Key, now_nanos: u64) -> Result<(), Full> {
        match &self.cells {
            Cells::One(cell) => self.kind.look(cell, now_nanos),
            Cells::PerKey(keys) => keys.look(
                key,
                |shared| self.kind.fresh(shared),
                |cell| self.kind.look(cell, now_nanos),
            ),
        }
    }

    /// Takes one, if there is room.
    pub(super) fn take(&self, key: &Key, now_nanos: u64) -> Result<Taken, Full> {
        let take = |cell: &K::Cell, place| {
            let (standing, mark) = self.kind.take(cell, now_nanos)?;
            Ok(Taken {
                standing,
                place,
                mark,
            })
        };
        match &self.cells {
            Cells::One(cell) => take(cell, Place::Own),
            Cells::PerKey(keys) => keys.take(key, |shared| self.kind.fresh(shared), take),
        }
    }

    /// Undoes a take of this key.
    pub(super) fn undo(&self, key: &Key, place: Place, mark: Mark) {
        match &self.cells {
            Cells::One(cell) => self.kind.undo(cell, mark),
            Cells::PerKey(keys) => {
                keys.taken_from(key, place, |cell| self.kind.undo(cell, mark));
            }
        }
    }

    /// Keys that are kept at present.
    pub(super) fn keys(&self) -> usize {
        match &self.cells {
            Cells::One(_) => 0,
            Cells::PerKey(keys) => keys.count(),
        }
    }

    /// Into how many slices a sweep is cut.
    pub(super) fn slices(&self) -> usize {
        match &self.cells {
            Cells::One(_) => 0,
            Cells::PerKey(keys) => keys.slices(),
        }
    }

    /// Forgets the keys of one slice whose allowance is whole.
    pub(super) fn sweep(&self, slice: usize, now_nanos: u64) {
        if let Cells::PerKey(keys) = &self.cells {
            keys.sweep(slice, |cell| self.kind.is_whole(cell, now_nanos));
        }
    }
}
