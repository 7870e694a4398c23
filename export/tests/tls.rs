//! Delivery over TLS: whom an exporter trusts, who it says it is, and what becomes of spans as long as it cannot.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod common;
mod support;

use std::sync::mpsc;
use std::time::Duration;

use common::{PATIENCE, RESOURCE, config, destination, reporter, until};
use support::certificates::{Authority, Identity, file, path};
use support::{Fault, Receiver, record};
use tracebaton_export::{Destination, Exporter, Reason, Tls};

const HERE: &str = "127.0.0.1";

struct Sender {
    exporter: Exporter,
    messages: mpsc::Receiver<String>,
    url: String,
}

/// An exporter of span 1 to this receiver.
fn sender(receiver: &Receiver, tls: Tls, timeout: Duration) -> Sender {
    let url = format!("https://{}", receiver.address);
    let (reporter, messages) = reporter();
    let destination = Destination { tls, timeout, ..destination(format!("{url}/v1/traces")) };
    let exporter = Exporter::new(destination, config(), RESOURCE, reporter).unwrap();
    record(&exporter, 1);
    Sender { exporter, messages, url }
}

impl Sender {
    /// The span arrives once.
    #[track_caller]
    fn delivers(&self, receiver: &Receiver) {
        assert!(self.exporter.flush(PATIENCE), "{:?}", self.exporter.stats());
        assert_eq!(receiver.arrived(), [(1, 1)]);
        let stats = self.exporter.stats();
        assert_eq!((stats.sent, stats.queued, stats.dropped.total()), (1, 0, 0));
    }

    /// The span is kept, which is tried more than once and said once; gives what was said.
    #[track_caller]
    fn is_kept(&self, receiver: &Receiver) -> String {
        assert!(!self.exporter.flush(Duration::ZERO));
        until("tried again", || self.exporter.stats().retried >= 3);
        assert_eq!(receiver.arrived(), []);
        let stats = self.exporter.stats();
        assert_eq!((stats.sent, stats.queued, stats.dropped.total()), (0, 1, 0));
        let messages: Vec<_> = self.messages.try_iter().collect();
        assert_eq!(messages.len(), 1, "{messages:?}");
        let said = messages[0].strip_prefix(&format!("cannot reach {} (", self.url)).unwrap();
        let said = said.strip_suffix("): spans are kept and retried").unwrap();
        // The time in it is another each time.
        let timeless = |error: &str| error.split("verification time").next().unwrap().to_owned();
        assert_eq!(timeless(&stats.last_error.unwrap()), timeless(said));
        said.to_owned()
    }

    /// A shutdown does not use up its time, and the span is counted as lost.
    #[track_caller]
    fn gives_up(&self) {
        assert!(!self.exporter.shutdown(Duration::MAX));
        let stats = self.exporter.stats();
        assert_eq!((stats.queued, stats.dropped.total()), (0, 1));
        assert!(stats.dropped.get(Reason::Shutdown) + stats.dropped.get(Reason::GaveUp) == 1, "{stats:?}");
    }
}

fn trusting(pem: &str) -> Tls {
    Tls { ca_certificate: Some(file(pem)), ..Tls::default() }
}

#[test]
fn a_private_authority_is_trusted_if_named() {
    let authority = Authority::new("private");
    let receiver = Receiver::start(authority.sign(HERE).server(None));
    sender(&receiver, trusting(&authority.pem), PATIENCE).delivers(&receiver);
    assert_eq!(receiver.connections(), 1);
}

#[test]
fn one_of_several_authorities_and_a_text_around_them() {
    let (authority, other) = (Authority::new("private"), Authority::new("other"));
    let receiver = Receiver::start(authority.sign(HERE).server(None));
    let bundle = format!("# Ours\n{}\n# Private\n{}", other.pem, authority.pem);
    sender(&receiver, trusting(&bundle), PATIENCE).delivers(&receiver);
}

#[test]
fn a_certificate_may_vouch_for_itself() {
    let identity = Identity::self_signed(HERE);
    let receiver = Receiver::start(identity.server(None));
    sender(&receiver, trusting(&identity.pem), PATIENCE).delivers(&receiver);
}

#[test]
fn strangers_get_nothing() {
    let (authority, other) = (Authority::new("private"), Authority::new("other"));
    let here = || authority.sign(HERE);
    for (identity, tls, error) in [
        (here(), Tls::default(), "TLS: invalid peer certificate: UnknownIssuer"),
        (here(), trusting(&other.pem), "TLS: invalid peer certificate: UnknownIssuer"),
        (Identity::self_signed(HERE), trusting(&authority.pem), "TLS: invalid peer certificate: UnknownIssuer"),
        (
            authority.sign_until(HERE, 2020),
            trusting(&authority.pem),
            "TLS: invalid peer certificate: certificate expired",
        ),
        (
            authority.sign("collector.test"),
            trusting(&authority.pem),
            "TLS: invalid peer certificate: certificate not valid for name",
        ),
    ] {
        let receiver = Receiver::start(identity.server(None));
        let sender = sender(&receiver, tls, PATIENCE);
        let said = sender.is_kept(&receiver);
        assert!(said.starts_with(error), "{said}");
        sender.gives_up();
    }
}

#[test]
fn a_receiver_without_tls_gets_nothing() {
    let receiver = Receiver::start(None);
    let sender = sender(&receiver, trusting(&Authority::new("private").pem), Duration::from_millis(500));
    until("tried again", || sender.exporter.stats().retried >= 1);
    assert_eq!(receiver.arrived(), []);
}

#[test]
fn faults_around_the_handshake() {
    let authority = Authority::new("private");
    for fault in [Fault::ResetUnread, Fault::Silence] {
        let receiver = Receiver::start(authority.sign(HERE).server(None));
        receiver.faults([fault]);
        let sender = sender(&receiver, trusting(&authority.pem), Duration::from_secs(1));
        sender.delivers(&receiver);
        assert_eq!(sender.exporter.stats().retried, 1);
    }
}

#[test]
fn clients_show_their_certificate_where_it_is_demanded() {
    let (authority, clients) = (Authority::new("private"), Authority::new("clients"));
    let client = clients.sign("client");
    let separate = || Tls {
        client_certificate: Some(file(&client.pem)),
        client_key: Some(file(&client.key_pem())),
        ..trusting(&authority.pem)
    };
    let together = Tls {
        client_certificate: Some(file(&format!("{}{}", client.key_pem(), client.pem))),
        ..trusting(&authority.pem)
    };
    for tls in [separate(), together] {
        let receiver = Receiver::start(authority.sign(HERE).server(Some(&clients)));
        sender(&receiver, tls, PATIENCE).delivers(&receiver);
    }
    // One that is not asked for does no harm.
    let receiver = Receiver::start(authority.sign(HERE).server(None));
    sender(&receiver, separate(), PATIENCE).delivers(&receiver);
}

#[test]
fn clients_without_the_right_certificate_are_refused() {
    let (authority, clients) = (Authority::new("private"), Authority::new("clients"));
    let stranger = Authority::new("strangers").sign("client");
    let wrong = Tls {
        client_certificate: Some(file(&stranger.pem)),
        client_key: Some(file(&stranger.key_pem())),
        ..trusting(&authority.pem)
    };
    for (tls, alert) in [(trusting(&authority.pem), "CertificateRequired"), (wrong, "UnknownCA")] {
        let receiver = Receiver::start(authority.sign(HERE).server(Some(&clients)));
        let sender = sender(&receiver, tls, PATIENCE);
        let said = sender.is_kept(&receiver);
        assert!(said.starts_with("TLS: ") && said.contains(alert), "{said}");
        sender.gives_up();
    }
}

#[test]
fn files_that_are_not_what_they_should_be_are_named_without_their_content() {
    let authority = Authority::new("private");
    let (client, other) = (authority.sign("client"), authority.sign("other"));
    let s3cr3t = "-----BEGIN CERTIFICATE-----\ns3cr3t\n-----END CERTIFICATE-----\n";
    let nowhere = || Some(path().to_str().unwrap().to_owned());
    let folder = Some(env!("CARGO_TARGET_TMPDIR").to_owned());
    let with = |certificate: &str, key: Option<&str>| Tls {
        client_certificate: Some(file(certificate)),
        client_key: key.map(file),
        ..trusting(&authority.pem)
    };
    let apart = "the client certificate and the client key are invalid or do not belong together";
    for (tls, error) in [
        (Tls { ca_certificate: nowhere(), ..Tls::default() }, "the CA certificate file does not exist"),
        (Tls { ca_certificate: folder, ..Tls::default() }, "the CA certificate file cannot be read"),
        (trusting(""), "the CA certificate file holds no certificate in PEM"),
        (trusting("s3cr3t"), "the CA certificate file holds no certificate in PEM"),
        (trusting(&client.key_pem()), "the CA certificate file holds no certificate in PEM"),
        (trusting(&s3cr3t.replace("s3cr3t", "s3*cr3t")), "the CA certificate file holds no certificate in PEM"),
        (trusting(&s3cr3t.replace("s3cr3t", "s3cr3tAA")), "the CA certificate file holds no valid certificate"),
        (
            Tls { client_certificate: nowhere(), ..trusting(&authority.pem) },
            "the client certificate file does not exist",
        ),
        (Tls { client_key: nowhere(), ..with(&client.pem, None) }, "the client key file does not exist"),
        (with(&client.pem, None), "the client certificate file holds no private key in PEM, or an encrypted one"),
        (with(&client.pem, Some("s3cr3t")), "the client key file holds no private key in PEM, or an encrypted one"),
        (with(&client.key_pem(), Some(&client.key_pem())), "the client certificate file holds no certificate in PEM"),
        (with(&client.pem, Some(&other.key_pem())), apart),
        (with(&client.pem, Some(&s3cr3t.replace("s3cr3t", "s3cr3tAA").replace("CERTIFICATE", "PRIVATE KEY"))), apart),
    ] {
        let receiver = Receiver::start(authority.sign(HERE).server(None));
        let sender = sender(&receiver, tls, PATIENCE);
        assert_eq!(sender.is_kept(&receiver), error);
        assert_eq!(receiver.connections(), 0);
        sender.gives_up();
    }
}

#[test]
fn a_file_may_come_later_or_be_renewed() {
    let (authority, other) = (Authority::new("private"), Authority::new("other"));
    let receiver = Receiver::start(authority.sign(HERE).server(None));
    let path = path();
    let tls = Tls { ca_certificate: Some(path.to_str().unwrap().to_owned()), ..Tls::default() };
    let sender = sender(&receiver, tls, PATIENCE);
    assert_eq!(sender.is_kept(&receiver), "the CA certificate file does not exist");
    std::fs::write(&path, &other.pem).unwrap();
    until("read", || sender.exporter.stats().last_error.is_some_and(|error| error.contains("UnknownIssuer")));
    std::fs::write(&path, &authority.pem).unwrap();
    sender.delivers(&receiver);
}

#[test]
fn without_tls_no_file_is_read() {
    let receiver = Receiver::start(None);
    let tls = Tls { ca_certificate: Some(path().to_str().unwrap().to_owned()), ..Tls::default() };
    let destination = Destination { tls, ..destination(format!("http://{}/v1/traces", receiver.address)) };
    let exporter = Exporter::new(destination, config(), RESOURCE, None).unwrap();
    record(&exporter, 1);
    assert!(exporter.flush(PATIENCE));
    assert_eq!(receiver.arrived(), [(1, 1)]);
}
