//! The starts of a rule in the order in which they come.

use std::collections::VecDeque;

/// Starts by the clock as moments, sorted and without duplicates also where clocks skip times:
/// what is skipped comes later than what is on the clock after the gap.
pub struct InOrder<I> {
    starts: I,
    /// Moments and their clock times that come before `ahead`, in order.
    ready: VecDeque<(i64, i64)>,
    ahead: Option<(i64, i64)>,
}

impl<I: Iterator<Item = i64>> InOrder<I> {
    /// `starts` are clock times, in order.
    pub fn new(starts: I) -> Self {
        Self {
            starts,
            ready: VecDeque::new(),
            ahead: None,
        }
    }

    /// The clock times themselves.
    pub fn starts(&self) -> &I {
        &self.starts
    }

    /// The next start, as a moment and in clock time. `moment` says of a clock time which moment
    /// it is, and whether the clocks skip it.
    #[inline]
    pub fn next(&mut self, mut moment: impl FnMut(i64) -> (i64, bool)) -> Option<(i64, i64)> {
        if let Some(next) = self.ready.pop_front() {
            return Some(next);
        }
        let (at, wall, skipped) = match self.ahead.take() {
            Some((at, wall)) => (at, wall, false),
            None => {
                let wall = self.starts.next()?;
                let (at, skipped) = moment(wall);
                (at, wall, skipped)
            }
        };
        if !skipped {
            return Some((at, wall));
        }
        let mut gap = vec![(at, wall)];
        let mut latest = at;
        for wall in self.starts.by_ref() {
            let (at, skipped) = moment(wall);
            if !skipped && at > latest {
                self.ahead = Some((at, wall));
                break;
            }
            latest = latest.max(at);
            gap.push((at, wall));
        }
        // Of two at the same moment the one that clocks show is kept, the later clock time.
        gap.sort_unstable_by_key(|(at, wall)| (*at, -wall));
        gap.dedup_by_key(|(at, _)| *at);
        self.ready = gap.into();
        self.ready.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_gap_skips_comes_in_its_place() {
        // Clocks are put forward from 100 to 110.
        let moment = |wall: i64| match wall {
            ..100 => (wall, false),
            100..110 => (wall, true),
            _ => (wall - 10, false),
        };
        let mut starts = InOrder::new([95, 100, 103, 107, 110, 113, 116, 118, 130].into_iter());
        let all: Vec<_> = std::iter::from_fn(|| starts.next(moment)).collect();
        let expected = [
            (95, 95),
            (100, 110),
            (103, 113),
            (106, 116),
            (107, 107),
            (108, 118),
            (120, 130),
        ];
        assert_eq!(all, expected);
        let mut starts = InOrder::new([100].into_iter());
        assert_eq!(starts.next(moment), Some((100, 100)));
        assert_eq!(starts.next(moment), None);
    }
}
