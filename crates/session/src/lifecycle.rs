//! The life of a session: how it may begin, and which status may follow which.

use std::fmt;
use std::str::FromStr;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Scheduled,
    Live,
    Paused,
    Ended,
    Cancelled,
    Error,
}

use Status::*;

/// The statuses of a finished session, as SQL has a list: [`Status::is_finished`].
#[macro_export]
macro_rules! finished {
    () => {
        "('ended', 'cancelled')"
    };
}

/// The statuses of a session on air, as SQL has a list: [`Status::is_on_air`].
#[macro_export]
macro_rules! on_air {
    () => {
        "('live', 'paused')"
    };
}

impl Status {
    pub const ALL: [Status; 6] = [Scheduled, Live, Paused, Ended, Cancelled, Error];

    /// The statuses that may follow this one. A session that has failed can go on, or be ended.
    pub fn next(self) -> &'static [Status] {
        match self {
            Scheduled => &[Live, Cancelled, Error],
            Live => &[Paused, Ended, Error],
            Paused => &[Live, Ended, Error],
            Error => &[Live, Ended],
            Ended | Cancelled => &[],
        }
    }

    /// Whether a session may begin so.
    pub fn is_first(self) -> bool {
        matches!(self, Scheduled | Live)
    }

    /// Staying as it is is always allowed.
    pub fn can_become(self, to: Status) -> bool {
        self == to || self.next().contains(&to)
    }

    pub fn is_finished(self) -> bool {
        self.next().is_empty()
    }

    /// Live or paused: the viewers see a stream, and the influencer can have no other.
    pub fn is_on_air(self) -> bool {
        matches!(self, Live | Paused)
    }

    pub fn label(self) -> &'static str {
        match self {
            Scheduled => "scheduled",
            Live => "live",
            Paused => "paused",
            Ended => "ended",
            Cancelled => "cancelled",
            Error => "error",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl FromStr for Status {
    type Err = ();

    fn from_str(label: &str) -> Result<Self, ()> {
        Self::ALL
            .into_iter()
            .find(|status| status.label() == label)
            .ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_against_every_target() {
        let allowed = [
            (Scheduled, Live),
            (Scheduled, Cancelled),
            (Scheduled, Error),
            (Live, Paused),
            (Live, Ended),
            (Live, Error),
            (Paused, Live),
            (Paused, Ended),
            (Paused, Error),
            (Error, Live),
            (Error, Ended),
        ];
        for from in Status::ALL {
            for to in Status::ALL {
                let expected = from == to || allowed.contains(&(from, to));
                assert_eq!(from.can_become(to), expected, "{from} to {to}");
            }
        }
    }

    #[test]
    fn every_status_is_reached_from_a_first_one() {
        let mut reached: Vec<Status> = Status::ALL.into_iter().filter(|it| it.is_first()).collect();
        assert_eq!(reached, [Scheduled, Live]);
        for step in 0.. {
            let Some(status) = reached.get(step).copied() else {
                break;
            };
            for next in status.next() {
                if !reached.contains(next) {
                    reached.push(*next);
                }
            }
        }
        assert_eq!(reached.len(), Status::ALL.len());
    }

    #[test]
    fn a_finished_session_stays_finished() {
        for status in Status::ALL {
            assert_eq!(
                status.is_finished(),
                matches!(status, Ended | Cancelled),
                "{status}"
            );
        }
    }

    #[test]
    fn labels_are_read_back() {
        for status in Status::ALL {
            assert_eq!(status.label().parse(), Ok(status));
        }
        assert_eq!("LIVE".parse::<Status>(), Err(()));
    }

    fn labels(of: impl Fn(Status) -> bool) -> String {
        let labels = Status::ALL.into_iter().filter(|status| of(*status));
        let labels: Vec<_> = labels.map(|status| format!("'{status}'")).collect();
        format!("({})", labels.join(", "))
    }

    #[test]
    fn lists_of_statuses_say_what_the_life_cycle_says() {
        assert_eq!(finished!(), labels(Status::is_finished));
        assert_eq!(on_air!(), labels(Status::is_on_air));
    }
}
