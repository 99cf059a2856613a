//! A bounded table from keys to cells, which any core may use at any time.
//!
//! It is cut into shards with a lock each, held for one look-up or for one slice of a sweep. A key
//! is there from its first take until a sweep finds its cell whole; a cell in debt stays. Beyond
//! the bound new keys share one cell, so that nobody gets a fresh allowance by being the last; nor by
//! getting a cell of its own later, since that begins in the shared one's debt.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::HashTable;

use super::allowance::Place;
use super::key::Key;

/// Keys of a full shard. A sweep holds a shard's lock for as long as it takes to look at so many,
/// some tens of microseconds.
const KEYS_PER_SHARD: usize = 4096;

/// Fewer shards than this would make cores wait for each other.
const FEWEST_SHARDS: usize = 16;

/// Some of the keys with their cells.
type Shard<C> = HashTable<(Key, C)>;

/// Cells by key.
pub(super) struct Keys<C> {
    shards: Box<[Mutex<Shard<C>>]>,
    /// Seeded at random, so that nobody can choose addresses that meet in one bucket.
    hasher: RandomState,
    count: AtomicUsize,
    max: usize,
    shared: C,
}

impl<C: Default> Keys<C> {
    pub(super) fn new(max: usize) -> Self {
        let shards = max.div_ceil(KEYS_PER_SHARD).max(FEWEST_SHARDS);
        Self {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            count: AtomicUsize::new(0),
            max,
            shared: C::default(),
        }
    }

    /// Shows the cell that a take would use, or one like it where it would be a new one.
    pub(super) fn look<T>(
        &self,
        key: &Key,
        fresh: impl FnOnce(&C) -> C,
        look: impl FnOnce(&C) -> T,
    ) -> T {
        let (hash, shard) = self.shard(key);
        match shard.find(hash, |(known, _)| known == key) {
            Some((_, cell)) => look(cell),
            None if self.is_full() => look(&self.shared),
            None => look(&fresh(&self.shared)),
        }
    }

    /// Shows the cell of the key, which is made if there is room for it, or else the shared one.
    pub(super) fn take<T>(
        &self,
        key: &Key,
        fresh: impl FnOnce(&C) -> C,
        take: impl FnOnce(&C, Place) -> T,
    ) -> T {
        let (hash, mut shard) = self.shard(key);
        if let Some((_, cell)) = shard.find(hash, |(known, _)| known == key) {
            return take(cell, Place::Own);
        }
        if !self.reserve() {
            return take(&self.shared, Place::Shared);
        }
        let entry = (*key, fresh(&self.shared));
        let entry = shard.insert_unique(hash, entry, |(key, _)| self.hash(key));
        take(&entry.get().1, Place::Own)
    }

    /// Shows the cell that an earlier take was shown.
    pub(super) fn taken_from(&self, key: &Key, place: Place, show: impl FnOnce(&C)) {
        if place == Place::Shared {
            return show(&self.shared);
        }
        let (hash, shard) = self.shard(key);
        // It may have been swept: then it was whole.
        if let Some((_, cell)) = shard.find(hash, |(known, _)| known == key) {
            show(cell);
        }
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn slices(&self) -> usize {
        self.shards.len()
    }

    /// Forgets the keys of one slice whose cells are whole.
    pub(super) fn sweep(&self, slice: usize, is_whole: impl Fn(&C) -> bool) {
        let Some(shard) = self.shards.get(slice) else {
            return;
        };
        let mut shard = lock(shard);
        let before = shard.len();
        shard.retain(|(_, cell)| !is_whole(cell));
        let after = shard.len();
        // Memory of a rush goes back; a table that is merely breathing keeps its size.
        let emptied = (after == 0).then(|| std::mem::take(&mut *shard));
        if after > 0 && after < shard.capacity() / 4 {
            shard.shrink_to_fit(|(key, _)| self.hash(key));
        }
        drop(shard);
        // Freed outside the lock: giving pages back to the system takes longer than looking.
        drop(emptied);
        self.count.fetch_sub(before - after, Ordering::Relaxed);
    }

    fn is_full(&self) -> bool {
        self.count() >= self.max
    }

    /// Makes room for one more key in the count.
    fn reserve(&self) -> bool {
        let one_more = |count| (count < self.max).then(|| count + 1);
        self.count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .is_ok()
    }

    fn shard(&self, key: &Key) -> (u64, MutexGuard<'_, Shard<C>>) {
        let hash = self.hash(key);
        // The table takes its buckets from the low bits and its tags from the highest seven.
        let index = usize::try_from((hash >> 32) & 0xff_ffff).unwrap_or_default();
        let shard = self
            .shards
            .get(index % self.shards.len())
            .expect("an index below the length");
        (hash, lock(shard))
    }

    fn hash(&self, key: &Key) -> u64 {
        self.hasher.hash_one(key)
    }
}

impl<C> fmt::Debug for Keys<C> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Keys")
            .field("count", &self.count)
            .field("max", &self.max)
            .finish_non_exhaustive()
    }
}

/// A panic while the lock was held cannot have left half an entry behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
