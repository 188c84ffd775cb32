//! Where bytes lie: a file, standard input, or an object in a bucket. In: what a person types. Out: readers, listings and
//! errors that say what to do. Nothing is ever written here.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::{HttpError, HttpErrorKind};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path as Key;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt, RetryConfig};
use tokio::runtime::Handle;
use url::Url;

/// Bytes fetched at a time from a bucket.
const RANGE_BYTES: u64 = 8 << 20;

/// A folder of files or objects.
#[derive(Clone)]
pub enum Folder {
    /// On this machine.
    Local(PathBuf),
    /// In a bucket.
    Remote {
        /// The bucket.
        store: Arc<dyn ObjectStore>,
        /// Prefix of the folder.
        prefix: Key,
        /// As it was typed, for messages.
        url: String,
        /// Where requests run.
        runtime: Handle,
    },
}

/// Why a place cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// A file.
    #[error("{path}: {why}")]
    File {
        /// Its path.
        path: String,
        /// What the system said.
        why: String,
    },
    /// A bucket or an object.
    #[error("{url}: {why}")]
    Store {
        /// Its URL.
        url: String,
        /// In one sentence.
        why: String,
    },
}

/// True for the URLs of buckets.
pub fn is_url(text: &str) -> bool {
    ["s3://", "gs://", "az://", "file://"].iter().any(|scheme| text.starts_with(scheme))
}

impl Folder {
    /// A folder or file on this machine, or a prefix in a bucket.
    pub fn open(text: &str, runtime: &Handle) -> Result<Folder, PlaceError> {
        if !is_url(text) {
            return Ok(Folder::Local(PathBuf::from(text)));
        }
        let failed = |why: String| PlaceError::Store { url: text.into(), why };
        let url = Url::parse(text).map_err(|error| failed(format!("not a URL: {error}")))?;
        if url.scheme() == "file" {
            let path = url.to_file_path().map_err(|()| failed("not a file on this machine".into()))?;
            return Ok(Folder::Local(path));
        }
        let store = store(&url).map_err(|error| failed(reason(&error)))?;
        let prefix = Key::from_url_path(url.path()).map_err(|error| failed(error.to_string()))?;
        let url = text.trim_end_matches('/').into();
        Ok(Folder::Remote { store, prefix, url, runtime: runtime.clone() })
    }

    /// As a person would type it.
    pub fn name(&self) -> String {
        match self {
            Folder::Local(path) => path.display().to_string(),
            Folder::Remote { url, .. } => url.clone(),
        }
    }

    /// A place below it.
    pub fn join(&self, below: &str) -> Folder {
        match self {
            Folder::Local(path) => Folder::Local(path.join(below)),
            Folder::Remote { store, prefix, url, runtime } => Folder::Remote {
                store: Arc::clone(store),
                prefix: below.split('/').fold(prefix.clone(), |key, part| key.join(part)),
                url: format!("{url}/{below}"),
                runtime: runtime.clone(),
            },
        }
    }

    /// Names and sizes of all files below it, with the path from it.
    pub fn list(&self) -> Result<Vec<(String, u64)>, PlaceError> {
        let mut files = match self {
            Folder::Local(path) => {
                let mut files = Vec::new();
                let mut add = |below: String, entry: &std::fs::DirEntry, is_file: bool| {
                    if is_file {
                        files.push((below, entry.metadata()?.len()));
                    }
                    Ok(())
                };
                walk(path, "", &mut add).map_err(|error| self.file_error(&error))?;
                files
            }
            Folder::Remote { store, prefix, runtime, .. } => {
                let listing = store.list(Some(prefix)).try_collect::<Vec<_>>();
                let objects = block_on(runtime, listing).map_err(|error| self.store_error(&error))?;
                let below = |key: &Key| {
                    key.prefix_match(prefix).map(|parts| {
                        parts.map(|part| part.as_ref().to_string()).collect::<Vec<_>>().join("/")
                    })
                };
                objects.iter().filter_map(|object| Some((below(&object.location)?, object.size))).collect()
            }
        };
        files.sort();
        Ok(files)
    }

    /// Paths of what is neither a file nor a folder: links, pipes, devices. Only a local folder can have such.
    pub fn strangers(&self) -> Result<Vec<String>, PlaceError> {
        let Folder::Local(path) = self else { return Ok(Vec::new()) };
        let mut strangers = Vec::new();
        let mut add = |below: String, _: &std::fs::DirEntry, is_file: bool| {
            if !is_file && below != CONTROL_SOCKET {
                strangers.push(below);
            }
            Ok(())
        };
        walk(path, "", &mut add).map_err(|error| self.file_error(&error))?;
        strangers.sort();
        Ok(strangers)
    }

    /// All bytes of a small file; `None` if it does not exist.
    pub fn read(&self) -> Result<Option<Vec<u8>>, PlaceError> {
        match self {
            // A pipe that nobody writes to would be waited for, for ever.
            Folder::Local(path) if std::fs::metadata(path).is_ok_and(|meta| !meta.is_file()) => {
                let why = "it is no regular file".to_string();
                Err(PlaceError::File { path: self.name(), why })
            }
            Folder::Local(path) => match std::fs::read(path) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(None),
                Err(error) => Err(self.file_error(&error)),
            },
            Folder::Remote { store, prefix, runtime, .. } => {
                let get = async { store.get(prefix).await?.bytes().await };
                match block_on(runtime, get) {
                    Ok(bytes) => Ok(Some(bytes.to_vec())),
                    Err(object_store::Error::NotFound { .. }) => Ok(None),
                    Err(error) => Err(self.store_error(&error)),
                }
            }
        }
    }

    /// The first bytes of it, at most so many.
    pub fn beginning(&self, most: u64) -> Result<Vec<u8>, PlaceError> {
        let mut bytes = Vec::new();
        match self {
            Folder::Local(_) => {
                let read = self.reader()?.take(most).read_to_end(&mut bytes);
                read.map_err(|error| self.file_error(&error))?;
            }
            Folder::Remote { store, prefix, runtime, .. } => {
                let range = block_on(runtime, store.get_range(prefix, 0..most));
                bytes.extend_from_slice(&range.map_err(|error| self.store_error(&error))?);
            }
        }
        Ok(bytes)
    }

    /// A reader of the stored bytes.
    pub fn reader(&self) -> Result<Box<dyn Read + Send>, PlaceError> {
        match self {
            Folder::Local(path) if path.as_os_str() == "-" => Ok(Box::new(io::stdin())),
            Folder::Local(path) => match File::open(path) {
                Ok(file) => Ok(Box::new(file)),
                Err(error) => Err(self.file_error(&error)),
            },
            Folder::Remote { store, prefix, runtime, .. } => {
                let size =
                    block_on(runtime, store.head(prefix)).map_err(|error| self.store_error(&error))?.size;
                let (store, key, runtime) = (Arc::clone(store), prefix.clone(), runtime.clone());
                Ok(Box::new(ObjectReader {
                    store,
                    key,
                    runtime,
                    at: 0,
                    size,
                    piece: io::Cursor::new(Vec::new()),
                }))
            }
        }
    }

    fn file_error(&self, error: &io::Error) -> PlaceError {
        let why = match error.kind() {
            io::ErrorKind::NotFound => "there is no such file or directory".into(),
            io::ErrorKind::PermissionDenied => "permission denied; run as a user who may read it".into(),
            _ => error.to_string(),
        };
        PlaceError::File { path: self.name(), why }
    }

    fn store_error(&self, error: &object_store::Error) -> PlaceError {
        PlaceError::Store { url: self.name(), why: reason(error) }
    }
}

/// A bucket, with the credentials and the address that the environment has. Someone waits for the answer: a store that
/// does not answer is given up within seconds.
fn store(url: &Url) -> object_store::Result<Arc<dyn ObjectStore>> {
    let retry =
        RetryConfig { max_retries: 2, retry_timeout: Duration::from_secs(8), ..RetryConfig::default() };
    let client = ClientOptions::new()
        .with_connect_timeout(Duration::from_secs(5))
        .with_timeout(Duration::from_secs(60))
        .with_allow_http(allows_http(url.scheme()));
    Ok(match url.scheme() {
        "gs" => Arc::new(
            GoogleCloudStorageBuilder::from_env()
                .with_url(url.as_str())
                .with_retry(retry)
                .with_client_options(client)
                .build()?,
        ),
        "az" => Arc::new(
            MicrosoftAzureBuilder::from_env()
                .with_url(url.as_str())
                .with_retry(retry)
                .with_client_options(client)
                .build()?,
        ),
        _ => Arc::new(
            AmazonS3Builder::from_env()
                .with_url(url.as_str())
                .with_retry(retry)
                .with_client_options(client)
                .build()?,
        ),
    })
}

/// The variable that lets a store be spoken to without TLS, by the scheme of its URLs and by its name in errors.
const ALLOW_HTTP: [(&str, &str, &str); 3] = [
    ("s3", "S3", "AWS_ALLOW_HTTP"),
    ("gs", "GCS", "GOOGLE_ALLOW_HTTP"),
    ("az", "MicrosoftAzure", "AZURE_ALLOW_HTTP"),
];

fn allows_http(scheme: &str) -> bool {
    let variable = ALLOW_HTTP.iter().find(|(of, ..)| *of == scheme).map(|(.., variable)| *variable);
    let value = variable.and_then(|variable| std::env::var(variable).ok()).unwrap_or_default();
    value.eq_ignore_ascii_case("true") || value == "1"
}

/// The variable that would have allowed what was refused because it is plain HTTP.
fn refused_http(error: &object_store::Error) -> Option<&'static str> {
    let object_store::Error::Generic { store, source } = error else { return None };
    let mut cause: Option<&dyn std::error::Error> = Some(&**source);
    while let Some(error) = cause {
        if error.to_string().contains("URL scheme is not allowed") {
            return ALLOW_HTTP.iter().find(|(_, name, _)| name == store).map(|(.., variable)| *variable);
        }
        cause = error.source();
    }
    None
}

/// What a store's error means for the person who reads it: by the code and the status that the store answered, never by words that
/// could stand in a name.
fn reason(error: &object_store::Error) -> String {
    if let Some(variable) = refused_http(error) {
        return format!("plain http is not allowed; set {variable}=true, or give an endpoint with https");
    }
    if matches!(error, object_store::Error::Generic { store: "S3", .. }) && asked_metadata(&error.to_string())
    {
        return NO_CREDENTIALS.into();
    }
    if cause::<HttpError>(error)
        .is_some_and(|http| matches!(http.kind(), HttpErrorKind::Connect | HttpErrorKind::Timeout))
    {
        return "the store cannot be reached; check its address and the network".into();
    }
    let text = error.to_string();
    let meant = match code(&text) {
        Some("NoSuchBucket" | "ContainerNotFound") => "the bucket does not exist",
        Some("InvalidAccessKeyId") => "the access key is not known there; check AWS_ACCESS_KEY_ID",
        Some("SignatureDoesNotMatch") => "the secret key is wrong; check AWS_SECRET_ACCESS_KEY",
        Some("AccessDenied") => DENIED,
        _ => match error {
            object_store::Error::PermissionDenied { .. } => DENIED,
            object_store::Error::Unauthenticated { .. } => {
                "these credentials are not accepted there; check them"
            }
            object_store::Error::NotFound { .. } => "there is no such object",
            _ => text.lines().next().unwrap_or_default(),
        },
    };
    meant.into()
}

/// True where the credentials were asked of the machine's metadata, because nothing else gives any.
fn asked_metadata(text: &str) -> bool {
    const GIVEN: [&str; 5] = [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ];
    let host = std::env::var("AWS_METADATA_ENDPOINT").unwrap_or_else(|_| "http://169.254.169.254".into());
    GIVEN.iter().all(|name| std::env::var_os(name).is_none()) && text.contains(&host)
}

const NO_CREDENTIALS: &str = "no credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for \
                              a public bucket";

const DENIED: &str = "access denied; these credentials may not read it";

/// All kinds of stores answer errors as XML with one such element. In a name these brackets would be encoded.
fn code(text: &str) -> Option<&str> {
    text.split_once("<Code>")?.1.split_once("</Code>").map(|(code, _)| code)
}

fn cause<'a, E: std::error::Error + 'static>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a E> {
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref() {
            return Some(found);
        }
        next = cause.source();
    }
    None
}

/// Visits everything below a folder that is no folder itself, by its path from there.
fn walk(
    folder: &Path,
    below: &str,
    visit: &mut impl FnMut(String, &std::fs::DirEntry, bool) -> io::Result<()>,
) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let below = if below.is_empty() { name } else { format!("{below}/{name}") };
        let kind = entry.file_type()?;
        match kind.is_dir() {
            true => walk(&entry.path(), &below, visit)?,
            false => visit(below, &entry, kind.is_file())?,
        }
    }
    Ok(())
}

/// A recorder that runs has it in its ring.
const CONTROL_SOCKET: &str = "control.sock";

/// Waits for a request; callers are never on a thread of the runtime.
fn block_on<F: Future>(runtime: &Handle, future: F) -> F::Output {
    runtime.block_on(future)
}

/// Reads an object range by range.
struct ObjectReader {
    store: Arc<dyn ObjectStore>,
    key: Key,
    runtime: Handle,
    at: u64,
    size: u64,
    piece: io::Cursor<Vec<u8>>,
}

impl Read for ObjectReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.position() as usize == self.piece.get_ref().len() && self.at < self.size {
            let end = (self.at + RANGE_BYTES).min(self.size);
            let bytes = block_on(&self.runtime, self.store.get_range(&self.key, self.at..end));
            self.piece = io::Cursor::new(bytes.map_err(|error| io::Error::other(reason(&error)))?.to_vec());
            self.at = end;
        }
        self.piece.read(buffer)
    }
}
