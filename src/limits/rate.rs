//! Requests over time, by the generic cell rate algorithm.
//!
//! A cell holds one number, the theoretical arrival time (TAT): when the allowance will be whole
//! again if nothing else comes. A request moves it one interval on, and has room as long as that
//! stays within the tolerance, which is one interval for each request of the burst.
//!
//! governor gives the quota and the atomic cell, which takes zero for "never". Its own `check` takes
//! as it looks, which does not compose over several policies, so looking, taking and undoing are three
//! steps here.

use std::convert::Infallible;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::Quota;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed, StateStore};

use super::allowance::{Full, Kind, Mark, Standing};

/// A rate with a burst.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    interval_nanos: u64,
    tolerance_nanos: u64,
}

impl Rate {
    /// So many requests a period, evenly, of which `burst` may come at once.
    ///
    /// The interval is rounded up to nanoseconds, so that it never admits more.
    pub(super) fn new(requests: NonZeroU32, period: Duration, burst: NonZeroU32) -> Self {
        let interval_nanos = period.as_nanos().div_ceil(requests.get().into());
        let interval_nanos = u64::try_from(interval_nanos).unwrap_or(u64::MAX);
        let quota = Quota::with_period(Duration::from_nanos(interval_nanos.max(1)))
            .expect("an interval above zero")
            .allow_burst(burst);
        let nanos = |duration| Nanos::from(duration).as_u64();
        Self {
            interval_nanos: nanos(quota.replenish_interval()),
            tolerance_nanos: nanos(quota.burst_size_replenished_in()),
        }
    }

    /// Where the arrival time moves to, if there is room for one more.
    fn next(&self, arrival: Option<Nanos>, now_nanos: u64) -> Result<u64, Full> {
        let arrival_nanos = arrival.map_or(0, Nanos::as_u64).max(now_nanos);
        let next_nanos = arrival_nanos.saturating_add(self.interval_nanos);
        let latest_nanos = now_nanos.saturating_add(self.tolerance_nanos);
        match next_nanos.checked_sub(latest_nanos) {
            None | Some(0) => Ok(next_nanos),
            Some(early_nanos) => Err(Full {
                wait: Duration::from_nanos(early_nanos),
            }),
        }
    }

    /// What is left once the arrival time is this.
    fn standing(&self, arrival_nanos: u64, now_nanos: u64) -> Standing {
        let debt_nanos = arrival_nanos.saturating_sub(now_nanos);
        let free_nanos = self.tolerance_nanos.saturating_sub(debt_nanos);
        let remaining = free_nanos / self.interval_nanos;
        let wait_nanos = if remaining == 0 {
            self.interval_nanos.saturating_sub(free_nanos)
        } else {
            debt_nanos
        };
        Standing {
            remaining,
            wait: Some(Duration::from_nanos(wait_nanos)),
        }
    }
}

impl Kind for Rate {
    type Cell = InMemoryState;

    fn look(&self, cell: &InMemoryState, now_nanos: u64) -> Result<(), Full> {
        self.next(arrival(cell), now_nanos).map(drop)
    }

    fn take(&self, cell: &InMemoryState, now_nanos: u64) -> Result<(Standing, Mark), Full> {
        cell.measure_and_replace(&NotKeyed::NonKey, |arrival| {
            let after_nanos = self.next(arrival, now_nanos)?;
            let mark = Mark {
                before_nanos: arrival.map_or(0, Nanos::as_u64),
                after_nanos,
            };
            let standing = self.standing(after_nanos, now_nanos);
            Ok(((standing, mark), Nanos::new(after_nanos)))
        })
    }

    /// Puts the cell back to what it was, if nobody has taken of it since.
    ///
    /// Had somebody, time might have given back already what would be given back here, and both
    /// together would be too much.
    fn undo(&self, cell: &InMemoryState, mark: Mark) {
        // Where it cannot be undone, one less is admitted.
        let _ = cell.measure_and_replace(&NotKeyed::NonKey, |arrival| {
            let is_untouched = arrival.map_or(0, Nanos::as_u64) == mark.after_nanos;
            match is_untouched {
                true => Ok(((), Nanos::new(mark.before_nanos))),
                false => Err(()),
            }
        });
    }

    /// In as much debt as the shared one: who has a share in that does not get rid of it.
    fn fresh(&self, shared: &InMemoryState) -> InMemoryState {
        let cell = InMemoryState::default();
        if let Some(arrival) = arrival(shared) {
            let _ =
                cell.measure_and_replace(&NotKeyed::NonKey, |_| Ok::<_, Infallible>(((), arrival)));
        }
        cell
    }

    fn is_whole(&self, cell: &InMemoryState, now_nanos: u64) -> bool {
        arrival(cell).is_none_or(|arrival| arrival.as_u64() <= now_nanos)
    }
}

/// Reads a cell: refusing to replace it leaves it as it is.
fn arrival(cell: &InMemoryState) -> Option<Nanos> {
    match cell.measure_and_replace(&NotKeyed::NonKey, Err::<(Infallible, _), _>) {
        Ok(never) => match never {},
        Err(arrival) => arrival,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(requests: u32, period: Duration, burst: u32) -> Rate {
        let nonzero = |number| NonZeroU32::new(number).expect("not zero");
        Rate::new(nonzero(requests), period, nonzero(burst))
    }

    const SECOND_NANOS: u64 = 1_000_000_000;

    #[test]
    fn admits_the_burst_at_once_and_then_the_rate() {
        let rate = rate(10, Duration::from_secs(1), 3);
        let cell = InMemoryState::default();
        for remaining in [2, 1, 0] {
            let (standing, _) = rate.take(&cell, SECOND_NANOS).expect("within the burst");
            assert_eq!(standing.remaining, remaining);
        }
        let full = rate
            .take(&cell, SECOND_NANOS)
            .expect_err("beyond the burst");
        assert_eq!(full.wait, Duration::from_millis(100));
        let then = SECOND_NANOS + SECOND_NANOS / 10;
        assert!(rate.take(&cell, then - 1).is_err(), "a nanosecond early");
        assert!(rate.take(&cell, then).is_ok());
        assert!(rate.take(&cell, then).is_err());
    }

    #[test]
    fn says_when_it_is_whole_again_or_has_room_again() {
        let rate = rate(1, Duration::from_secs(10), 2);
        let cell = InMemoryState::default();
        let (standing, _) = rate.take(&cell, SECOND_NANOS).expect("room");
        assert_eq!(
            (standing.remaining, standing.wait),
            (1, Some(Duration::from_secs(10)))
        );
        let (standing, _) = rate.take(&cell, 2 * SECOND_NANOS).expect("room");
        assert_eq!(
            (standing.remaining, standing.wait),
            (0, Some(Duration::from_secs(9)))
        );
        assert_eq!(
            rate.look(&cell, 2 * SECOND_NANOS).map_err(|full| full.wait),
            Err(Duration::from_secs(9))
        );
    }

    #[test]
    fn is_as_before_when_a_take_is_undone() {
        let rate = rate(5, Duration::from_secs(1), 2);
        let cell = InMemoryState::default();
        rate.take(&cell, SECOND_NANOS).expect("room");
        let (_, mark) = rate.take(&cell, SECOND_NANOS).expect("room");
        rate.undo(&cell, mark);
        assert!(rate.take(&cell, SECOND_NANOS).is_ok());
        assert!(rate.take(&cell, SECOND_NANOS).is_err());
    }

    /// A request that loses at another policy may be held up in between for as long as you like.
    #[test]
    fn hands_out_nothing_twice_when_a_take_is_undone_late() {
        let rate = rate(1_000, Duration::from_secs(1), 1);
        let cell = InMemoryState::default();
        let (_, mark) = rate.take(&cell, SECOND_NANOS).expect("room");
        let later = SECOND_NANOS + 2_000_000;
        rate.take(&cell, later).expect("time has given it back");
        rate.undo(&cell, mark);
        assert!(rate.take(&cell, later).is_err());
    }

    #[test]
    fn never_admits_more_for_an_interval_that_is_no_whole_number() {
        let rate = rate(3, Duration::from_secs(1), 1);
        assert_eq!(rate.interval_nanos, 333_333_334);
    }

    proptest! {
        /// The model: a bucket of `burst` tokens that gains one each interval.
        #[test]
        fn admits_what_a_bucket_of_tokens_would(
            requests in 1_u32..50,
            burst in 1_u32..20,
            steps in prop::collection::vec(0_u64..400_000_000, 1..200),
        ) {
            let rate = rate(requests, Duration::from_secs(1), burst);
            let cell = InMemoryState::default();
            let interval = u128::from(rate.interval_nanos);
            let (mut now, mut tokens) = (SECOND_NANOS, u128::from(burst) * interval);
            for step in steps {
                now += step;
                tokens = (tokens + u128::from(step)).min(u128::from(burst) * interval);
                let has_room = tokens >= interval;
                prop_assert_eq!(rate.look(&cell, now).is_ok(), has_room);
                prop_assert_eq!(rate.take(&cell, now).is_ok(), has_room);
                if has_room {
                    tokens -= interval;
                }
            }
        }
    }
}
