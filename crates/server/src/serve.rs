//! Listening on this computer's own address.

use crate::api;
use crate::inside::Inside;
use crate::worker::QUEUE;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;

/// A port that was taken, on 127.0.0.1.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Takes a port of this computer; 0 takes any that is free. Nobody outside can reach it.
    ///
    /// # Errors
    /// The port is in use.
    pub fn bind(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where the page is: `http://127.0.0.1:PORT/`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Answers until the process ends. `run` is the folder of a training run to watch, if there is one.
    ///
    /// # Errors
    /// No thread, or no event loop.
    pub fn serve(self, inside: Box<dyn Inside>, run: Option<PathBuf>) -> io::Result<()> {
        let router = api::router(inside, run, self.address.port(), QUEUE)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(self.listener)?;
            axum::serve(listener, router).await
        })
    }
}
