//! What is between a request and its connection: two things that the HTTP library has no other place for.

use std::io::ErrorKind;
use std::sync::Arc;

use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, NextTimeout, RustlsConnector, TcpConnector, Transport,
};

/// Connections over TCP, through a proxy's tunnel if there is one, with TLS if the URL says so. With an `origin`, the
/// connection is to a proxy that forwards requests there.
pub(crate) fn connector(origin: Option<&str>) -> impl Connector {
    ().chain(ConnectProxyConnector::default())
        .chain(TcpConnector::default())
        .chain(HearsOut)
        .chain(RustlsConnector::default())
        .chain(ToOrigin(origin.map(Arc::from)))
}

/// Makes every connection a [`Patient`] one.
#[derive(Debug)]
struct HearsOut;

impl<In: Transport> Connector<In> for HearsOut {
    type Out = Patient<In>;

    fn connect(&self, _details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        Ok(chained.map(|inner| Patient { inner, is_deaf: false }))
    }
}

/// A connection on which the other side may answer and hang up before it has read all of the request, as servers and
/// proxies do that refuse it by its head: 401, 413, 429. Writing then fails while the answer is already here. The rest of
/// the request is thrown away, and what is read decides: the answer, or the end of the connection.
///
/// One that answers early, reads no more and does not hang up either is not heard: writing then lasts as long as the
/// request may, and the batch is sent again.
#[derive(Debug)]
struct Patient<T> {
    inner: T,
    /// The other side does not read any more.
    is_deaf: bool,
}

impl<T: Transport> Transport for Patient<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        if self.is_deaf {
            return Ok(());
        }
        match self.inner.transmit_output(amount, timeout) {
            Err(Error::Io(error))
                if matches!(
                    error.kind(),
                    ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted
                ) =>
            {
                self.is_deaf = true;
                Ok(())
            }
            result => result,
        }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        !self.is_deaf && self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

/// Makes every connection one [to an origin](Forwarding), if there is one.
#[derive(Debug)]
struct ToOrigin(Option<Arc<str>>);

impl<In: Transport> Connector<In> for ToOrigin {
    type Out = Forwarding<In>;

    fn connect(&self, _details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        Ok(chained.map(|inner| Forwarding { inner, origin: self.0.clone(), is_start: true }))
    }
}

/// A connection to a proxy, whose requests name the whole URL ([`Forward`](crate::proxy::Forward)): the library writes
/// the path of it, and `http` knows no other. Without an origin it changes nothing.
#[derive(Debug)]
struct Forwarding<T> {
    inner: T,
    /// What goes before the path.
    origin: Option<Arc<str>>,
    /// What is sent next is the beginning of a request, since an answer has been waited for.
    is_start: bool,
}

impl<T: Transport> Transport for Forwarding<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, mut amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        if let Some(origin) = self.origin.as_deref().filter(|_| self.is_start && amount != 0) {
            // The buffer has 128 KiB.
            let too_large = || Error::BadUri("too large".into());
            let buffer = self.inner.buffers().output();
            let method = buffer.iter().take(amount).position(|byte| *byte == b' ').ok_or_else(too_large)?;
            let (path, end) = (method + 1, method + 1 + origin.len());
            if buffer.len() - amount < origin.len() {
                return Err(too_large());
            }
            buffer.copy_within(path..amount, end);
            buffer[path..end].copy_from_slice(origin.as_bytes());
            amount += origin.len();
        }
        self.is_start &= amount == 0;
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.is_start = true;
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}
