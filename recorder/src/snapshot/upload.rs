//! The HTTP client of uploads, whose sockets carry the mark by which a recorder knows its own and leaves them out.
//! In: requests of object_store. Out: responses. Where marking is not permitted, or a proxy stands between, uploads go all
//! the same, and standard error says that they will be recorded.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, Once, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::Connect;
use hyper_util::rt::{TokioExecutor, TokioIo};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpResponseBody, HttpService, ReqwestConnector,
};
use object_store::{ClientConfigKey, ClientOptions};
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::api::LeftOut;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Makes clients for object_store. What they ask for credentials (a metadata server) is plain HTTP; a store is so only where
/// the variable allows it.
#[derive(Debug)]
pub struct Connector {
    pub allow_http: &'static str,
}

#[derive(Debug, thiserror::Error)]
#[error("plain http is not allowed; set {0}=true, or give an endpoint with https")]
pub struct PlainHttp(&'static str);

impl Connector {
    /// Whether a store may be spoken to without TLS.
    pub fn allows_http(&self) -> bool {
        let value = std::env::var(self.allow_http).unwrap_or_default();
        value.eq_ignore_ascii_case("true") || value == "1"
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        // A proxy is left to the usual client, which knows how to talk to one.
        if let Some(name) = proxy() {
            tracing::warn!("{name} is set: the upload goes through a proxy, and is recorded where it passes");
            return ReqwestConnector::default().connect(options);
        }
        let failed =
            |source: io::Error| object_store::Error::Generic { store: "HTTP", source: Box::new(source) };
        // As reqwest, which object_store uses otherwise: the roots of this machine.
        let schemes = HttpsConnectorBuilder::new().with_native_roots().map_err(failed)?;
        let connector = schemes.https_or_http().enable_http1().wrap_connector(Marked);
        let is_allowed = options.get_config_value(&ClientConfigKey::AllowHttp).is_some_and(|v| v == "true");
        Ok(HttpClient::new(MarkedClient {
            client: Client::builder(TokioExecutor::new()).build(connector),
            refuse_http: (!is_allowed).then_some(self.allow_http),
        }))
    }
}

/// A client for what is fetched from others of us, by plain HTTP; the same mark is on its sockets.
pub fn marked() -> Client<impl Connect + Clone + Send + Sync + 'static, Full<&'static [u8]>> {
    Client::builder(TokioExecutor::new()).build(Marked)
}

fn proxy() -> Option<&'static str> {
    const NAMES: [&str; 6] =
        ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
    NAMES.into_iter().find(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

#[derive(Debug)]
struct MarkedClient {
    client: Client<HttpsConnector<Marked>, HttpRequestBody>,
    /// By the variable that would allow it.
    refuse_http: Option<&'static str>,
}

impl HttpService for MarkedClient {
    fn call<'a, 'b>(
        &'a self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            if let Some(variable) = self.refuse_http.filter(|_| request.uri().scheme_str() == Some("http")) {
                return Err(HttpError::new(HttpErrorKind::Unknown, PlainHttp(variable)));
            }
            let answer = timeout(REQUEST_TIMEOUT, self.client.request(request)).await;
            let answer = answer.map_err(|late| HttpError::new(HttpErrorKind::Timeout, late))?;
            let (head, body) = answer.map_err(error)?.into_parts();
            let body = body.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error));
            Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body)))
        })
    }
}

/// The kind decides whether object_store tries again.
fn error(error: hyper_util::client::legacy::Error) -> HttpError {
    let kind = if error.is_connect() { HttpErrorKind::Connect } else { HttpErrorKind::Request };
    HttpError::new(kind, error)
}

/// What the recorder gave for this process's connections, as long as the snapshot holds it.
static LEFT_OUT: Mutex<Weak<LeftOut>> = Mutex::new(Weak::new());

/// Marks the connections that are opened from now on.
pub fn leave_out(left_out: Option<&Arc<LeftOut>>) {
    *LEFT_OUT.lock().unwrap_or_else(|e| e.into_inner()) = left_out.map_or_else(Weak::new, Arc::downgrade);
}

/// Opens connections with the mark.
#[derive(Debug, Clone)]
struct Marked;

impl tower_service::Service<Uri> for Marked {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<TcpStream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(async move {
            let secure = uri.scheme_str() == Some("https");
            let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
            // An IPv6 address stands in brackets in a URL.
            let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
            let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
            for address in lookup_host((host, port)).await? {
                match timeout(CONNECT_TIMEOUT, connect(address)).await {
                    Ok(Ok(stream)) => return Ok(TokioIo::new(stream)),
                    Ok(Err(error)) => last = error,
                    Err(_) => last = io::ErrorKind::TimedOut.into(),
                }
            }
            Err(last)
        })
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    let left_out = LEFT_OUT.lock().unwrap_or_else(|e| e.into_inner()).upgrade();
    if let Some(left_out) = left_out
        && let Err(reason) = mark(&socket, address, left_out).await
    {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            tracing::warn!("the upload cannot be marked, and is recorded where it passes: {reason}")
        });
    }
    socket.set_nodelay(true)?;
    socket.connect(address).await
}

/// Names the connection to the recorder by its own port, which it is given here, and marks the socket.
async fn mark(socket: &TcpSocket, to: SocketAddr, left_out: Arc<LeftOut>) -> Result<(), String> {
    let any = if to.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
    let bound = socket.bind((any, 0).into()).and_then(|()| socket.local_addr());
    let port = bound.map_err(|error| error.to_string())?.port();
    let mark = left_out.mark;
    let named = spawn_blocking(move || left_out.connection(port)).await;
    if !named.is_ok_and(|is_named| is_named) {
        return Err("the recorder takes no more connections of this snapshot".to_owned());
    }
    SockRef::from(socket).set_mark(mark).map_err(|error| format!("{error}; give CAP_NET_ADMIN"))
}
