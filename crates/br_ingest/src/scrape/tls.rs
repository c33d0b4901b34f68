//! The TLS of one client: whom it trusts, under which name, and who it is itself.

use super::http_config::TlsConfig;
use br_std::{Error, Result};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion};
use std::sync::{Arc, OnceLock};

/// Texts of certificates and keys, read from where the configuration has them.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Pems {
    pub(super) ca: Option<Vec<u8>>,
    pub(super) cert: Option<Vec<u8>>,
    pub(super) key: Option<Vec<u8>>,
}

impl Pems {
    pub(super) fn read(config: &TlsConfig) -> Result<Self> {
        Ok(Self {
            ca: read("ca_file", config.ca.as_deref(), config.ca_file.as_deref())?,
            cert: read("cert_file", config.cert.as_deref(), config.cert_file.as_deref())?,
            key: read("key_file", config.key.as_ref().map(|key| key.0.as_str()), config.key_file.as_deref())?,
        })
    }
}

#[allow(clippy::disallowed_methods, reason = "certificates lie outside the data directory")]
fn read(key: &str, inline: Option<&str>, file: Option<&str>) -> Result<Option<Vec<u8>>> {
    if let Some(text) = inline {
        return Ok(Some(text.as_bytes().to_vec()));
    }
    let Some(file) = file else { return Ok(None) };
    let bytes = std::fs::read(file).map_err(|error| Error::from(error).context(format!("tls_config.{key} {file}")))?;
    Ok(Some(bytes))
}

/// What a connection is made with.
pub(super) fn client_config(config: &TlsConfig, pems: &Pems, http2: bool) -> Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let wrong = |what: &str, error: &dyn std::fmt::Display| Error::fix_request(format!("tls_config.{what}: {error}"));
    let verifier = Verifier {
        trust: trust(config, pems, &provider)?,
        name: match &config.server_name {
            Some(name) => Some(ServerName::try_from(name.clone()).map_err(|error| wrong("server_name", &error))?),
            None => None,
        },
        provider: provider.clone(),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(config)?)
        .map_err(|error| wrong("min_version", &error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut made = match (&pems.cert, &pems.key) {
        (Some(cert), Some(key)) => {
            let chain = certificates("cert", cert)?;
            let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| wrong("key", &error))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| wrong("cert", &error))?
        }
        _ => builder.with_no_client_auth(),
    };
    if http2 {
        made.alpn_protocols.push(b"h2".to_vec());
    }
    made.alpn_protocols.push(b"http/1.1".to_vec());
    Ok(made)
}

fn certificates(key: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(found) if found.is_empty() => Err(Error::fix_request(format!("tls_config.{key}: there is no certificate in it"))),
        Ok(found) => Ok(found),
        Err(error) => Err(Error::fix_request(format!("tls_config.{key}: {error}"))),
    }
}

/// Versions before 1.2 are broken and not spoken: to allow them is to allow 1.2.
fn versions(config: &TlsConfig) -> Result<Vec<&'static SupportedProtocolVersion>> {
    let number = |key: &str, text: &Option<String>, default: u8| match text.as_deref() {
        None => Ok(default),
        Some("TLS10") => Ok(0),
        Some("TLS11") => Ok(1),
        Some("TLS12") => Ok(2),
        Some("TLS13") => Ok(3),
        Some(other) => Err(Error::fix_request(format!("tls_config.{key}: {other:?} is none of TLS10, TLS11, TLS12, TLS13"))),
    };
    let (lowest, highest) = (number("min_version", &config.min_version, 2)?, number("max_version", &config.max_version, 3)?);
    let known = [(2, &rustls::version::TLS12), (3, &rustls::version::TLS13)];
    let allowed: Vec<_> =
        known.into_iter().filter(|(at, _)| (lowest..=highest).contains(at)).map(|(_, version)| version).collect();
    if allowed.is_empty() {
        return Err(Error::fix_request("tls_config: min_version and max_version leave neither TLS12 nor TLS13"));
    }
    Ok(allowed)
}

/// Which certificates are believed.
#[derive(Debug)]
enum Trust {
    All,
    /// Those of the configuration, or of the system.
    Chain(Arc<dyn ServerCertVerifier>),
    /// The system has none, which matters only when a certificate is to be checked.
    Nobody(String),
}

/// The certificates of the system take milliseconds to read, and each client needs them.
static SYSTEM: OnceLock<Result<Arc<rustls_platform_verifier::Verifier>, rustls::Error>> = OnceLock::new();

fn trust(config: &TlsConfig, pems: &Pems, provider: &Arc<CryptoProvider>) -> Result<Trust> {
    if config.insecure_skip_verify {
        return Ok(Trust::All);
    }
    let Some(ca) = &pems.ca else {
        return Ok(match SYSTEM.get_or_init(|| rustls_platform_verifier::Verifier::new(provider.clone()).map(Arc::new)) {
            Ok(verifier) => Trust::Chain(verifier.clone()),
            Err(error) => Trust::Nobody(format!("the system's certificates cannot be read: {error}")),
        });
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ca", ca)? {
        roots.add(certificate).map_err(|error| Error::fix_request(format!("tls_config.ca: {error}")))?;
    }
    let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    built.map(|verifier| Trust::Chain(verifier)).map_err(|error| Error::fix_request(format!("tls_config.ca: {error}")))
}

/// Checks a server's certificate, for another name than that of the address where one is given.
#[derive(Debug)]
struct Verifier {
    trust: Trust,
    name: Option<ServerName<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let name = self.name.as_ref().unwrap_or(server_name);
        match &self.trust {
            Trust::All => Ok(ServerCertVerified::assertion()),
            Trust::Chain(verifier) => verifier.verify_server_cert(end_entity, intermediates, name, ocsp_response, now),
            Trust::Nobody(why) => Err(rustls::Error::General(why.clone())),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_certificates_are_checked() {
        let config = |yaml: &str| serde_norway::from_str::<TlsConfig>(yaml).expect(yaml);
        assert_eq!(versions(&config("{min_version: TLS13}")).expect("valid"), [&rustls::version::TLS13]);
        assert_eq!(versions(&config("{min_version: TLS10, max_version: TLS12}")).expect("valid"), [&rustls::version::TLS12]);
        assert!(versions(&config("{max_version: TLS11}")).is_err());
        assert!(versions(&config("{min_version: SSL3}")).is_err());
        for (yaml, expect) in [
            ("{ca: nothing}", "tls_config.ca: there is no certificate in it"),
            ("{insecure_skip_verify: true, server_name: 'a b'}", "tls_config.server_name"),
            ("{ca_file: /does/not/exist.pem}", "tls_config.ca_file /does/not/exist.pem"),
        ] {
            let config = config(yaml);
            let made = Pems::read(&config).and_then(|pems| client_config(&config, &pems, true));
            let error = made.expect_err(yaml).to_string();
            assert!(error.contains(expect), "{error}");
        }
    }
}
