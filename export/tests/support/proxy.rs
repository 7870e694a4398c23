//! An HTTP proxy, as it stands between a company's machines and the world.

use std::io::{self, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::read_head;

/// A proxy that knows one server, whatever name it is asked for.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// A proxy that answers `CONNECT` with this status, and connects to this server if that is 200.
    pub(crate) fn start(server: SocketAddr, status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let of_thread = Arc::clone(&heads);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, heads) = (client.unwrap(), Arc::clone(&of_thread));
                thread::spawn(move || serve(client, server, status, &heads));
            }
        });
        Self { address, heads }
    }

    /// The heads of the requests to the proxy itself.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

fn serve(mut client: TcpStream, server: SocketAddr, status: u16, heads: &Mutex<Vec<String>>) {
    let Some(head) = read_head(&mut client) else { return };
    heads.lock().unwrap().push(head);
    if client.write_all(format!("HTTP/1.1 {status} Some Reason\r\n\r\n").as_bytes()).is_err() || status != 200 {
        return;
    }
    let server = TcpStream::connect(server).unwrap();
    let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let there = thread::spawn(move || pipe(&from, &to));
    pipe(&server, &client);
    there.join().unwrap();
}

fn pipe(mut from: &TcpStream, mut to: &TcpStream) {
    // Either end may break off.
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
