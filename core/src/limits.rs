//! How much a span may hold, and how text is cut to fit.

/// Limits on one span. The encoder counts what they leave out in OTLP's `dropped_*_count` fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Attributes of a span. Routing attributes and the event type are not counted and never evicted.
    pub attributes: usize,
    /// Events of a span.
    pub events: usize,
    /// Links of a span.
    pub links: usize,
    /// Attributes of one event.
    pub attributes_per_event: usize,
    /// Attributes of one link.
    pub attributes_per_link: usize,
    /// Characters (code points) of a text, and bytes of a byte array, that is an attribute's value or stands inside one,
    /// in a list or map; `None`: no limit (OpenTelemetry, common specification, "Attribute limits"). Names, routing
    /// attributes and the event type are never cut.
    pub value_length: Option<usize>,
    /// Levels of lists and maps inside an attribute's value; what lies deeper is written as JSON text. More than 20 are
    /// never written as such, since receivers refuse a whole request for one value that nests too deeply.
    pub value_depth: usize,
    /// Bytes of one captured value: a text or a node written as JSON, as [`flatten`](crate::flatten::flatten) emits it.
    pub captured_bytes: usize,
    /// Attributes that one call of [`flatten`](crate::flatten::flatten) emits at most. A quarter of
    /// [`attributes`](Self::attributes) unless set: inputs, outputs and metadata that all reach it still leave a
    /// quarter to the rest of the span, so that a list of 1,100 items cannot evict what else the span says.
    pub leaves: usize,
}

impl Limits {
    /// What HoneyHive's `init` allows: 1,024 attributes, 1,024 events, 128 links; 256 leaves.
    pub const fn honeyhive() -> Self {
        Self { events: 1024, ..Self::specification().with_attributes(1024) }
    }

    /// These limits with another number of attributes, and a quarter of it (at least one) as
    /// [`leaves`](Self::leaves).
    #[must_use]
    pub const fn with_attributes(self, attributes: usize) -> Self {
        let quarter = attributes / 4;
        Self { attributes, leaves: if quarter == 0 { 1 } else { quarter }, ..self }
    }

    const fn specification() -> Self {
        Self {
            attributes: 128,
            events: 128,
            links: 128,
            attributes_per_event: 128,
            attributes_per_link: 128,
            value_length: None,
            value_depth: 64,
            captured_bytes: 64 * 1024,
            leaves: 32,
        }
    }
}

impl Default for Limits {
    /// The OpenTelemetry specification's limits; 64 KiB for each captured value; 32 leaves.
    fn default() -> Self {
        Self::specification()
    }
}

/// Lists and maps, one inside the other, that are looked into at most, whatever other limits say: a value that is nested
/// without end must not use up the stack.
pub const MAX_DEPTH: usize = 128;

/// The first `characters` code points of a text.
pub fn truncate_characters(text: &str, characters: usize) -> &str {
    // A character has at least one byte.
    if text.len() <= characters {
        return text;
    }
    match text.char_indices().nth(characters) {
        Some((end, _)) => text.get(..end).unwrap_or_default(),
        None => text,
    }
}

/// The longest beginning of a text that has at most `bytes` bytes and ends between two characters.
pub fn truncate_bytes(text: &str, bytes: usize) -> &str {
    if text.len() <= bytes {
        return text;
    }
    // A character has at most four bytes: one of these ends between two.
    (0..4).find_map(|back| text.get(..bytes.saturating_sub(back))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_specifications() {
        let limits = Limits::default();
        assert_eq!((limits.attributes, limits.events, limits.links), (128, 128, 128));
        assert_eq!((limits.attributes_per_event, limits.attributes_per_link), (128, 128));
        assert_eq!((limits.value_length, limits.value_depth), (None, 64));
        assert_eq!((limits.captured_bytes, limits.leaves), (65_536, 32));
    }

    #[test]
    fn honeyhive_allows_what_its_init_does() {
        let limits = Limits::honeyhive();
        assert_eq!((limits.attributes, limits.events, limits.links, limits.leaves), (1024, 1024, 128, 256));
        assert_eq!(Limits { attributes: 128, events: 128, leaves: 32, ..limits }, Limits::default());
    }

    #[test]
    fn leaves_follow_the_number_of_attributes() {
        assert_eq!(Limits::default().with_attributes(2000).leaves, 500);
        assert_eq!(Limits::default().with_attributes(3).leaves, 1);
        assert_eq!(Limits::default().with_attributes(0).attributes, 0);
    }

    #[test]
    fn characters_are_code_points() {
        for (text, characters, cut) in [
            ("abc", 3, "abc"),
            ("abc", 2, "ab"),
            ("abc", 0, ""),
            ("", 0, ""),
            ("häß", 2, "hä"),
            ("häß", 3, "häß"),
            ("a😀b", 2, "a😀"),
            ("😀😀", 9, "😀😀"),
            // Two code points that show as one: the accent is a character of its own.
            ("e\u{301}x", 1, "e"),
        ] {
            assert_eq!(truncate_characters(text, characters), cut, "{text} {characters}");
        }
    }

    #[test]
    fn bytes_are_cut_between_characters() {
        for (text, bytes, cut) in [
            ("abc", 3, "abc"),
            ("abc", 2, "ab"),
            ("ä", 1, ""),
            ("aä", 2, "a"),
            ("€€", 5, "€"),
            ("a😀", 4, "a"),
            ("a😀", 3, "a"),
            ("a😀", 2, "a"),
            ("a😀", 5, "a😀"),
            ("😀", 3, ""),
            ("😀", 0, ""),
        ] {
            assert_eq!(truncate_bytes(text, bytes), cut, "{text} {bytes}");
        }
    }
}
