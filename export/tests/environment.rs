//! What an exporter takes from the environment of its process: the proxy, and whom the machine trusts. Each case is a
//! process of its own, since an environment cannot be changed safely while threads run.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test")]

mod common;
mod support;

use std::process::Command;

use common::{PATIENCE, RESOURCE, config, destination, reporter, until};
use support::certificates::{Authority, file, path};
use support::proxy::Proxy;
use support::{Fault, Receiver, record};
use tracebaton_export::{Destination, Exporter, Tls};

const OUTCOME: &str = "outcome: ";
const TOLD: &str = "told: ";
const DELIVERED: &str = "sent 1, kept 0, None";

/// Sends span 1 from another process with these variables; gives what became of it.
fn sent(url: &str, ca_certificate: Option<&str>, variables: &[(&str, &str)]) -> String {
    sent_and_told(url, ca_certificate, variables).0
}

/// The same, with what was reported.
fn sent_and_told(url: &str, ca_certificate: Option<&str>, variables: &[(&str, &str)]) -> (String, Vec<String>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "the_other_process", "--nocapture"]);
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
        command.env_remove(name).env_remove(name.to_ascii_uppercase());
    }
    command.env_remove("SSL_CERT_FILE").env_remove("SSL_CERT_DIR").env_remove("REQUEST_METHOD");
    command.env("TEST_URL", url).env("TEST_CA", ca_certificate.unwrap_or_default());
    let output = command.envs(variables.iter().copied()).output().unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    let outcome = output.lines().find_map(|line| Some(line.split_once(OUTCOME)?.1.to_owned()));
    let told = output.lines().filter_map(|line| Some(line.split_once(TOLD)?.1.to_owned())).collect();
    (outcome.unwrap_or_else(|| panic!("{output}")), told)
}

#[test]
#[ignore = "started by the other tests"]
fn the_other_process() {
    let (url, ca) = (std::env::var("TEST_URL").unwrap(), std::env::var("TEST_CA").unwrap());
    let tls = Tls { ca_certificate: Some(ca).filter(|path| !path.is_empty()), ..Tls::default() };
    let (reporter, messages) = reporter();
    let exporter = Exporter::new(Destination { tls, ..destination(url) }, config(), RESOURCE, reporter).unwrap();
    record(&exporter, 1);
    exporter.flush(std::time::Duration::ZERO);
    until("sent or tried again", || exporter.stats().sent == 1 || exporter.stats().retried >= 2);
    let stats = exporter.stats();
    messages.try_iter().for_each(|message| println!("{TOLD}{message}"));
    println!("{OUTCOME}sent {}, kept {}, {:?}", stats.sent, stats.queued, stats.last_error);
    exporter.shutdown(PATIENCE);
}

/// Many proxies give a tunnel to port 443 only.
#[test]
fn plain_http_is_forwarded() {
    let proxy = Receiver::start(None);
    let address = format!("http://user:s3cr3t@{}", proxy.address);
    let url = "http://collector.test:4318/v1/traces?x=1";
    assert_eq!(sent(url, None, &[("HTTP_PROXY", &address)]), DELIVERED);
    assert_eq!((proxy.arrived(), proxy.connections()), (vec![(1, 1)], 1));
    let heads = proxy.heads();
    assert!(heads[0].starts_with("post http://collector.test:4318/v1/traces?x=1 http/1.1\r\n"), "{heads:?}");
    assert_eq!(heads[0].matches("\r\nhost: ").count(), 1);
    assert!(heads[0].contains("\r\nhost: collector.test:4318\r\n"), "{heads:?}");
    // The head is in lower case here, and so is the base64 of `user:s3cr3t`.
    assert!(heads[0].contains("\r\nproxy-authorization: basic dxnlcjpzm2nym3q=\r\n"), "{heads:?}");
}

/// What comes after an answer is another request.
#[test]
fn every_plain_request_is_forwarded() {
    let proxy = Receiver::start(None);
    proxy.faults([Fault::answers(503, &[], b"later"), Fault::answers(502, &[], b"")]);
    let address = format!("http://{}", proxy.address);
    // The other process looks only at the second failure.
    sent("http://collector.test/", None, &[("HTTP_PROXY", &address)]);
    let heads = proxy.heads();
    assert!(heads.len() >= 2 && proxy.connections() == 1, "{heads:?}");
    assert!(heads.iter().all(|head| head.starts_with("post http://collector.test/ http/1.1\r\n")), "{heads:?}");
    assert!(heads.iter().all(|head| head.contains("\r\nhost: collector.test\r\n")), "{heads:?}");
    assert!(heads.iter().all(|head| !head.contains("proxy-authorization")), "{heads:?}");
}

#[test]
fn tls_goes_through_a_tunnel_and_is_with_the_receiver() {
    let authority = Authority::new("private");
    let receiver = Receiver::start(authority.sign("collector.test").server(None));
    let proxy = Proxy::start(receiver.address, 200);
    let variables = [("https_proxy", &*format!("http://{}", proxy.address)), ("HTTP_PROXY", "http://192.0.2.1:1")];
    assert_eq!(sent("https://collector.test/v1/traces", Some(&file(&authority.pem)), &variables), DELIVERED);
    assert_eq!(receiver.arrived(), [(1, 1)]);
    assert!(proxy.heads()[0].starts_with("connect collector.test:443 http/1.1\r\n"), "{:?}", proxy.heads());
}

#[test]
fn a_proxy_may_itself_speak_tls() {
    let authority = Authority::new("private");
    let receiver = Receiver::start(authority.sign("127.0.0.1").server(None));
    let address = format!("https://{}", receiver.address);
    let url = "http://collector.test:4318/v1/traces";
    let own = file(&authority.pem);
    assert_eq!(sent(url, None, &[("HTTP_PROXY", &address), ("SSL_CERT_FILE", &own)]), DELIVERED);
    assert_eq!(receiver.arrived(), [(1, 1)]);
    let heads = receiver.heads();
    assert!(heads[0].starts_with("post http://collector.test:4318/v1/traces http/1.1\r\n"), "{heads:?}");
    assert!(sent(url, None, &[("HTTP_PROXY", &address)]).contains("UnknownIssuer"));
}

#[test]
fn a_proxy_that_gives_no_connection_is_tried_again() {
    for status in [403, 407, 502] {
        let receiver = Receiver::start(None);
        let proxy = Proxy::start(receiver.address, status);
        let address = format!("http://{}", proxy.address);
        assert_eq!(
            sent("https://collector.test:4318/v1/traces", None, &[("ALL_PROXY", &address)]),
            "sent 0, kept 1, Some(\"the proxy gives no connection\")"
        );
        assert!(proxy.heads().len() >= 2);
        assert_eq!((receiver.arrived(), receiver.connections()), (vec![], 0));
    }
}

/// `0.0.0.0` is this machine, but not by an address that is never reached through a proxy.
#[cfg(unix)]
#[test]
fn hosts_without_a_proxy() {
    let (receiver, proxy) = (Receiver::start(None), Receiver::start(None));
    let address = format!("http://{}", proxy.address);
    let port = receiver.address.port();
    let url = |host: &str| format!("http://{host}:{port}/v1/traces");
    for no_proxy in ["other.test", "0.0.0.0:1", "0.0.0.1"] {
        assert_eq!(sent(&url("0.0.0.0"), None, &[("HTTP_PROXY", &address), ("NO_PROXY", no_proxy)]), DELIVERED);
    }
    assert_eq!((receiver.arrived(), proxy.arrived()), (vec![], vec![(1, 3)]));
    for no_proxy in ["other.test, 0.0.0.0", "0.0.0.0/8", "*", &format!("0.0.0.0:{port}")] {
        assert_eq!(sent(&url("0.0.0.0"), None, &[("HTTP_PROXY", &address), ("NO_PROXY", no_proxy)]), DELIVERED);
    }
    assert_eq!(sent(&url("127.0.0.1"), None, &[("HTTP_PROXY", &address)]), DELIVERED);
    assert_eq!((receiver.arrived(), proxy.arrived()), (vec![(1, 5)], vec![(1, 3)]));
}

#[cfg(unix)]
#[test]
fn what_is_no_proxy_is_told_once_and_not_used() {
    let receiver = Receiver::start(None);
    let url = format!("http://0.0.0.0:{}", receiver.address.port());
    for value in ["::bad::s3cr3t", "socks5://user:s3cr3t@192.0.2.1:1"] {
        let told = format!("HTTP_PROXY is not the http:// or https:// URL of a proxy: {url} is reached without one");
        let variables = [("HTTP_PROXY", value)];
        assert_eq!(sent_and_told(&format!("{url}/v1/traces"), None, &variables), (DELIVERED.into(), vec![told]));
    }
    assert_eq!(receiver.arrived(), [(1, 2)]);
}

#[test]
fn the_machine_says_whom_to_trust() {
    let authority = Authority::new("private");
    let receiver = Receiver::start(authority.sign("127.0.0.1").server(None));
    let url = format!("https://{}/v1/traces", receiver.address);
    let own = file(&authority.pem);
    assert_eq!(sent(&url, None, &[("SSL_CERT_FILE", &own)]), DELIVERED);
    assert_eq!(receiver.arrived(), [(1, 1)]);
    // What is said of this destination alone counts more.
    let other = file(&Authority::new("other").pem);
    assert!(sent(&url, Some(&other), &[("SSL_CERT_FILE", &own)]).contains("UnknownIssuer"));
    assert_eq!(sent(&url, Some(&own), &[("SSL_CERT_FILE", &other)]), DELIVERED);
    assert_eq!(receiver.arrived(), [(1, 2)]);
    assert!(sent(&url, None, &[]).contains("UnknownIssuer"));
    let nowhere = path();
    assert_eq!(
        sent(&url, None, &[("SSL_CERT_FILE", nowhere.to_str().unwrap())]),
        "sent 0, kept 1, Some(\"no certificate where SSL_CERT_FILE and SSL_CERT_DIR point\")"
    );
    assert_eq!(receiver.arrived(), [(1, 2)]);
}
