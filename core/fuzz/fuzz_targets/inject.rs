//! Headers composed of anything: no illegal octet leaves, limits hold, and the next service reads what was meant.
#![no_main]

mod lines;

use libfuzzer_sys::fuzz_target;
use tracebaton::baggage::Entry;
use tracebaton::policy::Allowed;
use tracebaton::rule::{Rule, RuleSet};
use tracebaton::session::{OwnMember, PRIVATE_KEY};
use tracebaton::{Baggage, Extractor, Outbound, Policy, extract, inject};

// Session, project, source, traceparent, tracestate, inbound baggage, the carrier's baggage; then name, value and
// properties of the application's entries.
fuzz_target!(|data: &[u8]| {
    let parts: Vec<&[u8]> = lines::lines(data).collect();
    let text = |at: usize| parts.get(at).map(|part| String::from_utf8_lossy(part)).unwrap_or_default();
    let raw = |at: usize| parts.get(at).copied().unwrap_or_default();
    let (session, project, source) = (text(0), text(1), text(2));
    let caller = [("traceparent", raw(3)), ("tracestate", raw(4)), ("baggage", raw(5))];
    let inbound = extract(&caller, &Policy::default());
    let texts: Vec<_> = (7..parts.len()).map(text).collect();
    let mut application: Vec<Entry<'_>> = texts
        .chunks(3)
        .map(|entry| Entry {
            name: &entry[0],
            value: entry.get(1).map_or("", |value| value),
            properties: entry.get(2).map(|properties| &**properties),
        })
        .collect();
    // An API has each name once.
    application.sort_by_key(|entry| entry.name);
    application.dedup_by_key(|entry| entry.name);
    let out = Outbound {
        span: inbound.span.as_ref(),
        session: Some(&session),
        project: Some(&project),
        source: Some(&source),
        application: &application,
        inbound: Some(&inbound.baggage),
        ..Outbound::default()
    };
    let mut carrier: Vec<(String, Vec<u8>)> = vec![("Baggage".into(), raw(6).to_vec()), ("accept".into(), vec![])];
    let left_out = inject(&mut carrier, &out);

    let mut values = Vec::new();
    carrier.each("baggage", &mut |value| values.push(value));
    assert!(values.len() <= 1 && carrier.iter().filter(|(name, _)| name.eq_ignore_ascii_case("baggage")).count() <= 1);
    for (_, value) in &carrier {
        assert!(lines::may_be_sent(std::str::from_utf8(value).unwrap()));
    }
    let mut dropped = RuleSet::EMPTY;
    let sent = Baggage::parse(&values, Baggage::MAX_MEMBERS, Baggage::MAX_BYTES, &mut dropped);
    assert_eq!(dropped, RuleSet::EMPTY, "what is sent breaks no rule and no limit");
    assert!(sent.get(PRIVATE_KEY).is_none());

    let next = extract(&carrier, &Policy::default());
    assert_eq!(next.span, inbound.span);
    let fits = |text: &str| (1..=256).contains(&text.chars().count());
    if fits(&session) {
        assert_eq!(next.session.as_deref(), Some(&*session));
    }
    if fits(&session) && fits(&project) {
        assert_eq!(next.project.as_deref(), Some(&*project));
    }
    // Once more into the same carrier changes nothing, unless something had no room and is tried again.
    let once = carrier.clone();
    if !left_out.contains(Rule::BaggageSendBytes) && !left_out.contains(Rule::BaggageSendMembers) {
        inject(&mut carrier, &out);
        assert_eq!(carrier, once);
    }
    // Nothing of it stays for a host that may have no baggage, but for what the carrier held under other names.
    inject(&mut carrier, &Outbound { allowed: Allowed { trace: true, baggage: false }, ..out });
    let others = extract(&carrier, &Policy::default()).baggage;
    let may_stay = |name: &str| {
        OwnMember::of(name).is_none()
            && inbound.baggage.get(name).is_none()
            && application.iter().all(|entry| entry.name != name)
    };
    assert!(others.iter().all(|member| may_stay(member.name())));
});
