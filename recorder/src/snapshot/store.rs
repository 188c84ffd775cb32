//! The stores of buckets: how they are reached, and what they answer in words.
//! In: a URL and the usual environment. Out: a store of object_store over marked connections, and of its errors what a person can
//! act on. Retries take seconds, not minutes.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::{HttpError, HttpErrorKind};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::{ClientOptions, ObjectStore, RetryConfig};
use url::Url;

use super::upload::{Connector, PlainHttp};

/// None where the scheme is none of a store's.
pub fn open(url: &Url) -> Option<object_store::Result<Arc<dyn ObjectStore>>> {
    let reach = |allow_http| {
        let connector = Connector { allow_http };
        (client(&connector), connector)
    };
    match url.scheme() {
        "s3" => {
            let (client, connector) = reach("AWS_ALLOW_HTTP");
            let builder = AmazonS3Builder::from_env().with_url(url.as_str()).with_client_options(client);
            Some(builder.with_http_connector(connector).with_retry(retry()).build().map(shared))
        }
        "gs" => {
            let (client, connector) = reach("GOOGLE_ALLOW_HTTP");
            let builder =
                GoogleCloudStorageBuilder::from_env().with_url(url.as_str()).with_client_options(client);
            Some(builder.with_http_connector(connector).with_retry(retry()).build().map(shared))
        }
        "az" => {
            let (client, connector) = reach("AZURE_ALLOW_HTTP");
            let builder =
                MicrosoftAzureBuilder::from_env().with_url(url.as_str()).with_client_options(client);
            Some(builder.with_http_connector(connector).with_retry(retry()).build().map(shared))
        }
        _ => None,
    }
}

fn shared(store: impl ObjectStore) -> Arc<dyn ObjectStore> {
    Arc::new(store)
}

fn retry() -> RetryConfig {
    RetryConfig { max_retries: 3, retry_timeout: Duration::from_secs(8), ..RetryConfig::default() }
}

/// These replace what the builder read of the environment.
fn client(connector: &Connector) -> ClientOptions {
    let options = ClientOptions::new()
        .with_connect_timeout(Duration::from_secs(5))
        .with_timeout(Duration::from_secs(60));
    options.with_allow_http(connector.allows_http())
}

/// What a person can act on, out of what a server answered.
pub fn sentence(error: &object_store::Error) -> String {
    if let Some(refused) = cause::<PlainHttp>(error) {
        return refused.to_string();
    }
    let text = error.to_string();
    if matches!(error, object_store::Error::Generic { store: "S3", .. }) && asked_metadata(&text) {
        return NO_CREDENTIALS.to_owned();
    }
    if let Some(known) = code(&text).and_then(meaning).or_else(|| meaning_of_kind(error)) {
        known.to_owned()
    } else if cause::<HttpError>(error).is_some_and(is_unreachable) {
        "no connection; check the endpoint and the network".to_owned()
    } else {
        text.lines().next().unwrap_or("failed").to_owned()
    }
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

/// All three kinds of stores answer errors as XML with one such element.
fn code(text: &str) -> Option<&str> {
    text.split_once("<Code>")?.1.split_once("</Code>").map(|(code, _)| code)
}

fn meaning(code: &str) -> Option<&'static str> {
    Some(match code {
        "NoSuchBucket" | "ContainerNotFound" => NO_BUCKET,
        "InvalidAccessKeyId" | "NotSignedUp" => {
            "the access key is not known there; check it and the endpoint"
        }
        "SignatureDoesNotMatch" => "the secret key is wrong; check it",
        "InvalidToken" | "ExpiredToken" | "TokenRefreshRequired" => {
            "the session token is wrong or has expired; get a new one"
        }
        // Azure says it of an unknown account's name, too.
        "AuthenticationFailed" | "InvalidAuthenticationInfo" | "InvalidSecurity" => BAD_KEY,
        "AccessDenied"
        | "AllAccessDisabled"
        | "AuthorizationFailure"
        | "AuthorizationPermissionMismatch"
        | "InsufficientAccountPermissions" => {
            "the key is right, but has not the right to do this; give it the rights to list, read and write"
        }
        _ => return None,
    })
}

/// What is left where no code is told: an answer to HEAD has no body.
fn meaning_of_kind(error: &object_store::Error) -> Option<&'static str> {
    match error {
        object_store::Error::NotFound { .. } => Some(NO_BUCKET),
        object_store::Error::Unauthenticated { .. } => Some(BAD_KEY),
        object_store::Error::PermissionDenied { .. } => {
            Some("access is denied, and not said why; check the key and its rights")
        }
        _ => None,
    }
}

const NO_BUCKET: &str = "the bucket does not exist; make it, or check the name";
const BAD_KEY: &str = "the key is not accepted; check it, and the account it belongs to";

fn is_unreachable(error: &HttpError) -> bool {
    matches!(error.kind(), HttpErrorKind::Connect | HttpErrorKind::Timeout)
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
