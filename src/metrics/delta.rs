//! What a statement changes in a session's numbers.

/// Sums to add to a session's columns. Adding two deltas is doing one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Change of `current_viewers`.
    pub viewers: i64,
    /// Highest value that `viewers` had on the way, 0 at least: rows count one by one.
    pub peak: i64,
    pub unique_viewers: i64,
    pub watch_seconds: i64,
    pub messages: i64,
    pub reactions: i64,
    pub shares: i64,
    pub products: i64,
    pub clicks: i64,
    pub orders: i64,
    /// In hundredths.
    pub revenue: i64,
    pub disconnections: i64,
    pub buffering_events: i64,
    pub buffering_seconds: i64,
}

impl Delta {
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// A viewer comes (1) or goes (-1).
    pub fn viewer(&mut self, change: i64) {
        self.viewers += change;
        self.peak = self.peak.max(self.viewers);
    }
}

impl std::ops::AddAssign for Delta {
    fn add_assign(&mut self, later: Self) {
        self.peak = self.peak.max(self.viewers + later.peak);
        self.viewers += later.viewers;
        self.unique_viewers += later.unique_viewers;
        self.watch_seconds += later.watch_seconds;
        self.messages += later.messages;
        self.reactions += later.reactions;
        self.shares += later.shares;
        self.products += later.products;
        self.clicks += later.clicks;
        self.orders += later.orders;
        self.revenue += later.revenue;
        self.disconnections += later.disconnections;
        self.buffering_events += later.buffering_events;
        self.buffering_seconds += later.buffering_seconds;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_the_highest_on_the_way() {
        let mut delta = Delta::default();
        for change in [1, 1, -1, 1, 1, -1, -1, -1] {
            delta.viewer(change);
        }
        assert_eq!((delta.viewers, delta.peak), (0, 3));
    }

    #[test]
    fn a_sum_is_one_after_the_other() {
        let steps = [-1, 1, 1, -1, -1, 1, 1, 1];
        let mut whole = Delta::default();
        steps.iter().for_each(|&step| whole.viewer(step));
        for cut in 0..=steps.len() {
            let mut halves = [Delta::default(); 2];
            for (i, &step) in steps.iter().enumerate() {
                halves[usize::from(i >= cut)].viewer(step);
            }
            let mut sum = halves[0];
            sum += halves[1];
            assert_eq!(sum, whole, "cut at {cut}");
        }
    }
}
