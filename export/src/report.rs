//! What is told to people about delivery: each kind of trouble once, until it is over.

use std::sync::Arc;

use tracebaton::delivery::Reason;

/// Takes short messages about trouble with delivery. It is called from the exporter's thread with no lock held, and
/// may take its time, which delays only the next request.
pub type Reporter = Arc<dyn Fn(&str) + Send + Sync>;

/// A kind of trouble: reported once until the destination accepts spans again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Trouble {
    Unreachable,
    Busy,
    Refused,
    TooLarge,
    GaveUp,
    QueueFull,
    Rejected,
    Warned,
    Shutdown,
    SpoolFull,
}

/// The kinds of trouble that have been reported.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Troubles(u16);

impl Troubles {
    /// Notes this trouble; true if it is new.
    pub(crate) fn begin(&mut self, trouble: Trouble) -> bool {
        let bit = 1 << trouble as u16;
        let new = self.0 & bit == 0;
        self.0 |= bit;
        new
    }

    /// The destination accepts spans: what kept them from it is over. What it says about the spans themselves is not
    /// over, since it would be said again with every batch; nor is a full queue, before it is empty.
    pub(crate) fn recovered(&mut self, queue_is_empty: bool) {
        let mut kept = 1 << Trouble::Rejected as u16 | 1 << Trouble::Warned as u16 | 1 << Trouble::SpoolFull as u16;
        if !queue_is_empty {
            kept |= 1 << Trouble::QueueFull as u16;
        }
        self.0 &= kept;
    }
}

impl From<Reason> for Trouble {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::QueueFull => Self::QueueFull,
            Reason::TooLarge => Self::TooLarge,
            Reason::GaveUp => Self::GaveUp,
            Reason::Shutdown => Self::Shutdown,
            _ => Self::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_new_once_until_it_is_over() {
        let mut troubles = Troubles::default();
        for trouble in [Trouble::Unreachable, Trouble::QueueFull, Trouble::Rejected] {
            assert!(troubles.begin(trouble));
            assert!(!troubles.begin(trouble));
        }
        troubles.recovered(false);
        assert!(troubles.begin(Trouble::Unreachable));
        assert!(!troubles.begin(Trouble::QueueFull));
        troubles.recovered(true);
        assert!(troubles.begin(Trouble::QueueFull));
        assert!(!troubles.begin(Trouble::Rejected));
    }
}
