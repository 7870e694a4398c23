//! Whom a TLS connection trusts, and who it says it is: the PEM files of a [`Tls`], or the system's certificates.
//!
//! Files are read on the thread that sends, when a connection is first needed, and again after a failure: a certificate
//! may be mounted after the program's start, or renewed. What is wrong with a file is said without its path and content.

use std::fs::File;
use std::io::{self, Read as _};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use tracebaton::settings::Tls;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

/// The largest file that is read: a path may name a device without end.
const FILE_BYTES: u64 = 4 * 1024 * 1024;

/// What connections are made with, or what keeps them from being made.
pub(crate) fn config(files: &Tls) -> Result<TlsConfig, String> {
    let roots = match &files.ca_certificate {
        Some(path) => roots_of(path)?,
        None => roots_of_system()?,
    };
    let client = match &files.client_certificate {
        Some(path) => Some(client(path, files.client_key.as_deref())?),
        None => None,
    };
    Ok(TlsConfig::builder().root_certs(roots).client_cert(client).build())
}

/// The certificates in this file and no others.
fn roots_of(path: &str) -> Result<RootCerts, String> {
    const WHAT: &str = "the CA certificate file";
    let certificates = certificates(WHAT, &read(WHAT, path)?)?;
    // Authorities that rustls cannot use are left out; with none at all, every server would be a stranger.
    if RootCertStore::empty().add_parsable_certificates(certificates.iter().cloned()).0 == 0 {
        return Err(format!("{WHAT} holds no valid certificate"));
    }
    Ok(specific(&certificates))
}

/// What this machine trusts, or `SSL_CERT_FILE` and `SSL_CERT_DIR` say; on a machine that has nothing of the kind, as in
/// a small container, Mozilla's list.
fn roots_of_system() -> Result<RootCerts, String> {
    // This reads the environment, for which the standard library has a lock. It is held for an instant while a connection
    // is made, and a fork waits for that; unlike the proxy's variables, these cannot be read beforehand.
    let certificates = rustls_native_certs::load_native_certs().certs;
    if !certificates.is_empty() {
        return Ok(specific(&certificates));
    }
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    // Whoever set these may want to trust less than Mozilla does.
    if set("SSL_CERT_FILE") || set("SSL_CERT_DIR") {
        return Err("no certificate where SSL_CERT_FILE and SSL_CERT_DIR point".into());
    }
    Ok(RootCerts::WebPki)
}

fn specific(certificates: &[CertificateDer<'_>]) -> RootCerts {
    RootCerts::Specific(Arc::new(certificates.iter().map(for_ureq).collect()))
}

/// A client's certificate and its key, which is in the same file if no other is named.
fn client(certificate: &str, key: Option<&str>) -> Result<ClientCert, String> {
    const CERTIFICATE: &str = "the client certificate file";
    let pem = read(CERTIFICATE, certificate)?;
    let chain = certificates(CERTIFICATE, &pem)?;
    let (what, pem) = match key {
        Some(path) => ("the client key file", read("the client key file", path)?),
        None => (CERTIFICATE, pem),
    };
    let no_key = || format!("{what} holds no private key in PEM, or an encrypted one");
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| no_key())?;
    let for_ureq_key = PrivateKey::from_pem(&pem).map_err(|_| no_key())?;
    // ureq takes for granted that this succeeds, and would panic.
    let provider = CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(ring::default_provider()));
    if CertifiedKey::from_der(chain.clone(), key, &provider).is_err() {
        return Err("the client certificate and the client key are invalid or do not belong together".into());
    }
    let chain: Vec<_> = chain.iter().map(for_ureq).collect();
    Ok(ClientCert::new_with_certs(&chain, for_ureq_key))
}

fn certificates(what: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(format!("{what} holds no certificate in PEM")),
    }
}

fn for_ureq(certificate: &CertificateDer<'_>) -> Certificate<'static> {
    Certificate::from_der(certificate).to_owned()
}

fn read(what: &str, path: &str) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    let result = File::open(path).and_then(|file| file.take(FILE_BYTES).read_to_end(&mut content));
    match result {
        Ok(_) => Ok(content),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(format!("{what} does not exist")),
        Err(_) => Err(format!("{what} cannot be read")),
    }
}
