//! The fields of a HoneyHive event.

/// The fields of a HoneyHive event that hold values of the user's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Bucket {
    /// What the step was given.
    Inputs,
    /// What it gave back.
    Outputs,
    /// Anything else worth knowing.
    Metadata,
    /// Measurements.
    Metrics,
    /// Judgements of people.
    Feedback,
    /// Settings of the step.
    Config,
    /// Who it was done for.
    UserProperties,
}

impl Bucket {
    /// Every bucket.
    pub const ALL: [Self; 7] = [
        Self::Inputs,
        Self::Outputs,
        Self::Metadata,
        Self::Metrics,
        Self::Feedback,
        Self::Config,
        Self::UserProperties,
    ];

    /// What keys of attributes in this bucket begin with: `honeyhive_inputs` for [`Inputs`](Self::Inputs).
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Inputs => "honeyhive_inputs",
            Self::Outputs => "honeyhive_outputs",
            Self::Metadata => "honeyhive_metadata",
            Self::Metrics => "honeyhive_metrics",
            Self::Feedback => "honeyhive_feedback",
            Self::Config => "honeyhive_config",
            Self::UserProperties => "honeyhive_user_properties",
        }
    }
}
