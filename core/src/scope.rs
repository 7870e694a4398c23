//! What the current context says about sessions: immutable, cheap to clone, and passed along with the context itself.
//!
//! A session is, in this order: the one given explicitly; the innermost of those that callers sent and that
//! [`SessionScope::with_session`] set; the tracer's own. The first and the last are the caller's of this module; a [`SessionScope`]
//! holds what is between.
//!
//! Two tracers in one process never see each other's sessions: each fact belongs to the tracer it was made for. What a
//! global propagator took in belongs to no tracer, and each tracer sees it under its own policy.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::{fmt, mem};

use crate::baggage::Baggage;
use crate::context::SpanContext;
use crate::extract::Inbound;
use crate::policy::{InboundMode, Policy};
use crate::session::{self, InvalidSession, OwnMember};

#[cfg(feature = "exchange")]
mod blob;

/// A tracer of this process. The number is the binding's and never leaves the process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TracerId(pub u64);

/// The sessions, projects, baggage and links that hold in a context. Empty, it costs nothing; a clone is one reference
/// count. Changes make a new one, so that leaving a block means going back to the old one.
///
/// It holds at most four facts for each tracer, however deep blocks are nested: a new one takes the place of the older
/// one that it hides.
#[derive(Clone, Default)]
pub struct SessionScope(Option<Arc<[Fact]>>);

/// Newest first in its scope.
#[derive(Clone)]
struct Fact {
    /// The tracer that it was made for, whose policy had its say then; none if a global propagator took it in.
    tracer: Option<TracerId>,
    what: What,
}

#[derive(Clone)]
enum What {
    Session {
        id: Arc<str>,
        /// Its own name, where it has another one than the tracer's sessions have.
        name: Option<Arc<str>>,
        inbound: bool,
    },
    Project(Arc<str>),
    Baggage(Baggage),
    /// None hides an older one: the newer caller's trace goes on.
    Link(Option<SpanContext>),
}

/// Session ids do not belong in logs, where `{:?}` ends up: this tells how many facts there are.
impl fmt::Debug for SessionScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionScope({} facts)", self.facts().len())
    }
}

impl SessionScope {
    /// The scope that says nothing.
    pub const EMPTY: Self = Self(None);

    /// Whether it says nothing.
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// This scope with another session for this tracer.
    ///
    /// # Errors
    ///
    /// If the text is no session id ([`session::check`]).
    pub fn with_session(&self, tracer: TracerId, session: &str) -> Result<Self, InvalidSession> {
        self.with_named_session(tracer, session, None, false)
    }

    /// The same for a session that has a name of its own, or that is `registered` by somebody else, as one that a caller
    /// sent is.
    ///
    /// # Errors
    ///
    /// If the text is no session id ([`session::check`]).
    pub fn with_named_session(
        &self,
        tracer: TracerId,
        session: &str,
        name: Option<&str>,
        registered: bool,
    ) -> Result<Self, InvalidSession> {
        session::check(session)?;
        let what = What::Session { id: session.into(), name: name.map(Into::into), inbound: registered };
        Ok(self.with(Some(tracer), [what]))
    }

    /// This scope with what a caller sent; what it did not send stays as it is. `tracer` is the one under whose policy
    /// it was extracted, or none: then each tracer's own policy decides what it sees of it.
    #[must_use]
    pub fn with_inbound(&self, tracer: Option<TracerId>, inbound: &Inbound) -> Self {
        let session = inbound.session.as_deref().map(|id| What::Session { id: id.into(), name: None, inbound: true });
        let project = inbound.project.as_deref().map(|project| What::Project(project.into()));
        let baggage = (!inbound.baggage.is_empty()).then(|| What::Baggage(inbound.baggage.clone()));
        let hides_link =
            inbound.span.is_some() && self.facts().iter().any(|fact| matches!(fact.what, What::Link(Some(_))));
        let link = (hides_link || inbound.link.is_some()).then(|| What::Link(inbound.link.clone()));
        self.with(tracer, [session, project, baggage, link].into_iter().flatten())
    }

    /// The session that holds for this tracer here, if any; its own does otherwise.
    pub fn session_for(&self, tracer: impl Into<Option<TracerId>>, policy: &Policy) -> Option<&str> {
        self.session(tracer.into(), policy).map(|(id, ..)| id)
    }

    /// The name that the session which holds for this tracer here has for itself.
    pub fn session_name_for(&self, tracer: impl Into<Option<TracerId>>, policy: &Policy) -> Option<&str> {
        self.session(tracer.into(), policy).and_then(|(_, name, _)| name)
    }

    /// Whether the session that holds for this tracer here was sent by a caller, who then is the one to register it.
    pub fn session_is_inbound(&self, tracer: impl Into<Option<TracerId>>, policy: &Policy) -> bool {
        self.session(tracer.into(), policy).is_some_and(|(.., inbound)| inbound)
    }

    /// The project that a caller sent and this tracer accepts; the tracer's own holds otherwise.
    pub fn project_for(&self, tracer: impl Into<Option<TracerId>>, policy: &Policy) -> Option<&str> {
        self.visible(tracer.into(), policy).find_map(|fact| match &fact.what {
            What::Project(project) if fact.tracer.is_some() || policy.accepts(OwnMember::Project) => Some(&**project),
            _ => None,
        })
    }

    /// The baggage that came in, as it came in: what [`Outbound::inbound`](crate::inject::Outbound::inbound) is made of.
    /// That structure takes the policy too, since what a policy rejects is not passed on.
    pub fn baggage(&self, tracer: impl Into<Option<TracerId>>, policy: &Policy) -> Option<&Baggage> {
        self.visible(tracer.into(), policy).find_map(|fact| match &fact.what {
            What::Baggage(baggage) => Some(baggage),
            _ => None,
        })
    }

    /// The caller's span that a new trace is to be linked with, where the policy starts a new one (rule TP16).
    pub fn link(&self, tracer: impl Into<Option<TracerId>>, policy: &Policy) -> Option<&SpanContext> {
        self.visible(tracer.into(), policy).find_map(|fact| match &fact.what {
            What::Link(link) => Some(link.as_ref()),
            _ => None,
        })?
    }

    fn session(&self, tracer: Option<TracerId>, policy: &Policy) -> Option<(&str, Option<&str>, bool)> {
        self.visible(tracer, policy).find_map(|fact| match &fact.what {
            What::Session { id, name, inbound } if fact.tracer.is_some() || policy.accepts(OwnMember::Session) => {
                Some((&**id, name.as_deref(), *inbound))
            }
            _ => None,
        })
    }

    fn facts(&self) -> &[Fact] {
        self.0.as_deref().unwrap_or_default()
    }

    /// The facts that this tracer may see, newest first.
    fn visible(&self, tracer: Option<TracerId>, policy: &Policy) -> impl Iterator<Item = &Fact> {
        let takes_any = policy.inbound != InboundMode::Ignore;
        self.facts().iter().filter(move |fact| match fact.tracer {
            Some(_) => fact.tracer == tracer,
            None => takes_any,
        })
    }

    fn with(&self, tracer: Option<TracerId>, news: impl IntoIterator<Item = What>) -> Self {
        // Four kinds of facts at most are new.
        let mut facts = Vec::with_capacity(self.facts().len().saturating_add(4));
        facts.extend(news.into_iter().map(|what| Fact { tracer, what }));
        let new = facts.len();
        if new == 0 {
            return self.clone();
        }
        for old in self.facts() {
            let hides = |new: &Fact| mem::discriminant(&new.what) == mem::discriminant(&old.what);
            if old.tracer != tracer || !facts.iter().take(new).any(hides) {
                facts.push(old.clone());
            }
        }
        Self(Some(facts.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::carrier::{Collected, Extractor};
    use crate::extract::extract;
    use crate::inject::{Outbound, compose};
    use alloc::format;

    const A: TracerId = TracerId(1);
    const B: TracerId = TracerId(2);

    fn inbound(baggage: &str) -> Inbound {
        extract(&[("baggage", baggage)], &Policy::default())
    }

    #[test]
    fn the_innermost_session_counts() {
        let policy = Policy::default();
        let outer = SessionScope::EMPTY.with_session(A, "outer").unwrap();
        let caller = outer.with_inbound(Some(A), &inbound("session_id=caller,project=p,k=v;x"));
        let inner = caller.with_session(A, "inner").unwrap();
        assert_eq!(outer.session_for(A, &policy), Some("outer"));
        assert_eq!(caller.session_for(A, &policy), Some("caller"));
        assert!(caller.session_is_inbound(A, &policy) && !inner.session_is_inbound(A, &policy));
        assert_eq!(inner.session_for(A, &policy), Some("inner"));
        assert_eq!(inner.project_for(A, &policy), Some("p"));
        assert_eq!(inner.baggage(A, &policy).unwrap().get("k").unwrap().value(), "v");
        // A caller that sends no session leaves the one that holds.
        let silent = inner.with_inbound(Some(A), &inbound("k=w"));
        assert_eq!(silent.session_for(A, &policy), Some("inner"));
        assert_eq!(silent.project_for(A, &policy), Some("p"));
        assert_eq!(silent.baggage(A, &policy).unwrap().get("k").unwrap().value(), "w");
        // Leaving a block is going back to the scope before it.
        assert_eq!(outer.session_for(A, &policy), Some("outer"));
        assert_eq!(outer.with_session(A, "").unwrap_err(), InvalidSession::Empty);
    }

    #[test]
    fn a_session_may_have_a_name_and_another_to_register_it() {
        let policy = Policy::default();
        let named = SessionScope::EMPTY.with_named_session(A, "s", Some("chat"), false).unwrap();
        assert_eq!((named.session_name_for(A, &policy), named.session_is_inbound(A, &policy)), (Some("chat"), false));
        assert_eq!(named.session_name_for(B, &policy), None);
        let silent = named.with_inbound(Some(A), &inbound("k=v"));
        assert_eq!(silent.session_name_for(A, &policy), Some("chat"));
        let caller = named.with_inbound(Some(A), &inbound("session_id=caller"));
        assert_eq!(caller.session_name_for(A, &policy), None);
        let theirs = SessionScope::EMPTY.with_named_session(A, "s", None, true).unwrap();
        assert!(theirs.session_is_inbound(A, &policy));
        assert_eq!(theirs.with_named_session(A, "", None, true).unwrap_err(), InvalidSession::Empty);
    }

    #[test]
    fn tracers_do_not_see_each_other() {
        let policy = Policy::default();
        let scope =
            SessionScope::EMPTY.with_inbound(Some(A), &inbound("session_id=a,project=p")).with_session(B, "b").unwrap();
        assert_eq!(scope.session_for(A, &policy), Some("a"));
        assert_eq!(scope.session_for(B, &policy), Some("b"));
        assert_eq!(scope.project_for(B, &policy), None);
        assert!(scope.baggage(B, &policy).is_none());
        assert_eq!(scope.session_for(TracerId(3), &policy), None);
        assert_eq!(scope.session_for(None, &policy), None);
    }

    #[test]
    fn what_a_global_propagator_took_in_is_seen_under_each_policy() {
        let scope =
            SessionScope::EMPTY.with_inbound(None, &inbound("session_id=s,project=p,honeyhive.session_id=t,k=v"));
        let open = Policy::default();
        assert_eq!(scope.session_for(A, &open), Some("t"));
        assert_eq!(scope.session_for(None, &open), Some("t"));
        let closed = Policy { accept_session: false, ..Policy::default() };
        assert_eq!(scope.session_for(B, &closed), None);
        assert_eq!(scope.project_for(B, &closed), Some("p"));
        let out = Outbound { inbound: scope.baggage(B, &closed), policy: Some(&closed), ..Outbound::default() };
        assert_eq!(compose(&out, &Collected::default()).baggage.as_deref(), Some("project=p,k=v"));
        let deaf = Policy { inbound: InboundMode::Ignore, ..Policy::default() };
        assert!(scope.session_for(A, &deaf).is_none() && scope.baggage(A, &deaf).is_none());
        // A's own session inside: it counts for A, and for nobody else.
        let inner = scope.with_session(A, "own").unwrap();
        assert_eq!((inner.session_for(A, &open), inner.session_for(B, &open)), (Some("own"), Some("t")));
    }

    #[test]
    fn links_of_older_callers_are_hidden() {
        let traceparent = [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01")];
        let restart = Policy { inbound: InboundMode::Restart, ..Policy::default() };
        let scope = SessionScope::EMPTY.with_inbound(Some(A), &extract(&traceparent, &restart));
        assert!(scope.link(A, &restart).is_some() && scope.link(B, &restart).is_none());
        let inner = scope.with_inbound(Some(A), &extract(&traceparent, &Policy::default()));
        assert!(inner.link(A, &restart).is_none());
    }

    #[test]
    fn debug_shows_no_text() {
        let carrier = [("baggage", "session_id=secret,k=secret")];
        let inbound = extract(&carrier, &Policy::default());
        let scope = SessionScope::EMPTY.with_inbound(Some(A), &inbound);
        let out =
            Outbound { session: inbound.session.as_deref(), inbound: Some(&inbound.baggage), ..Outbound::default() };
        let headers = compose(&out, &[("baggage", "mine=secret")].collect());
        let shown = format!("{inbound:?} {scope:?} {out:?} {headers:?} {:?}", carrier.collect());
        assert!(!shown.contains("secret") && shown.contains("SessionScope(2 facts)"), "{shown}");
    }

    #[test]
    fn nesting_does_not_grow_it() {
        let mut scope = SessionScope::EMPTY;
        for round in 0..1000 {
            scope = scope.with_session(A, &format!("s{round}")).unwrap();
            scope = scope.with_inbound(Some(A), &inbound(&format!("session_id=i{round},project=p,k={round}")));
            scope = scope.with_inbound(None, &inbound("session_id=global,k=1"));
        }
        assert_eq!(scope.facts().len(), 5);
        assert_eq!(scope.session_for(A, &Policy::default()), Some("global"));
        assert!(SessionScope::EMPTY.with_inbound(None, &Inbound::default()).is_empty());
    }
}
