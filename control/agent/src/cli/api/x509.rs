//! `api fetch x509` and `api watch`, with SPIRE's text and file names.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::Write,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use jiff::Timestamp;
use serde_json::{Value, json};
use svidecar_api::workload::X509svidResponse;
use svidecar_authority::{CertificateDer, UnixTime, bundle::Bundle, pem, x509::CertInfo};
use svidecar_process::{
    clock,
    console::{Console, Format},
};

use super::args::{SocketArgs, X509Args};
use crate::cli::error::CliError;

/// Certificates and bundles are public, keys are not.
const PUBLIC: u32 = 0o644;
const SECRET: u32 = 0o600;

/// Waits between tries of `api watch`.
const WATCH_AGAIN: Duration = Duration::from_secs(1);

/// A message with its certificates read.
struct Received {
    svids: Vec<Svid>,
}

struct Svid {
    spiffe_id: String,
    hint: String,
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
    bundle: Vec<CertificateDer<'static>>,
    federated: BTreeMap<String, Vec<CertificateDer<'static>>>,
}

/// `api fetch x509`
pub async fn fetch(args: X509Args, console: &mut Console) -> Result<(), CliError> {
    let start = clock::monotonic();
    let response = args
        .timeout
        .within(async {
            let mut stream = args.socket.client().await?.x509_svids().await?;
            stream.message().await?.ok_or_else(|| CliError::message("the agent sent nothing"))
        })
        .await?;
    let took = clock::monotonic() - start;
    let received = Received::read(&response)?;
    if args.silent {
        console.silence();
    }
    match args.output.output {
        Format::Json => console.json(&to_json(&response))?,
        Format::Pretty => received.print(took, console.out())?,
    }
    match &args.write {
        Some(directory) => received.write(directory, console),
        None => Ok(()),
    }
}

/// `api watch`: until interrupted. A stream that ends is opened again.
pub async fn watch(socket: SocketArgs, console: &mut Console) -> Result<(), CliError> {
    let mut since = clock::monotonic();
    loop {
        let outcome = follow(&socket, &mut since, console).await;
        match outcome {
            Err(error @ (CliError::Io(_) | CliError::Endpoint(_))) => return Err(error),
            Err(CliError::Rpc(status)) if status.code() == tonic::Code::InvalidArgument => {
                return Err(CliError::Rpc(status));
            }
            // Whoever is gone here as well wants nothing any more.
            Err(error) => writeln!(console.err(), "{error}")?,
            Ok(()) => {}
        }
        tokio::time::sleep(WATCH_AGAIN).await;
    }
}

async fn follow(socket: &SocketArgs, since: &mut Instant, console: &mut Console) -> Result<(), CliError> {
    let mut stream = socket.client().await?.x509_svids().await?;
    while let Some(response) = stream.message().await? {
        Received::read(&response)?.print(clock::monotonic() - *since, console.out())?;
        console.flush()?;
        *since = clock::monotonic();
    }
    Ok(())
}

impl Received {
    fn read(response: &X509svidResponse) -> Result<Self, CliError> {
        let federated = response
            .federated_bundles
            .iter()
            .map(|(name, der)| Ok((name.clone(), Bundle::certificates_from_der(der)?)))
            .collect::<Result<BTreeMap<_, _>, CliError>>()?;
        let svids = response
            .svids
            .iter()
            .map(|svid| {
                Ok(Svid {
                    spiffe_id: svid.spiffe_id.clone(),
                    hint: svid.hint.clone(),
                    chain: Bundle::certificates_from_der(&svid.x509_svid)?,
                    key: svid.x509_svid_key.clone(),
                    bundle: Bundle::certificates_from_der(&svid.bundle)?,
                    federated: federated.clone(),
                })
            })
            .collect::<Result<_, CliError>>()?;
        Ok(Self { svids })
    }

    fn print(&self, took: Duration, out: &mut dyn Write) -> Result<(), CliError> {
        let plural = if self.svids.len() == 1 { "" } else { "s" };
        writeln!(out, "Received {} svid{plural} after {took:?}", self.svids.len())?;
        for svid in &self.svids {
            writeln!(out)?;
            svid.print(out)?;
        }
        Ok(writeln!(out)?)
    }

    fn write(&self, directory: &Path, console: &mut Console) -> Result<(), CliError> {
        for (i, svid) in self.svids.iter().enumerate() {
            let file = |name: String| directory.join(name);
            let path = file(format!("svid.{i}.pem"));
            writeln!(console.out(), "Writing SVID #{i} to file {}.", path.display())?;
            write_file(&path, PUBLIC, pem::encode_certificates(&svid.chain).as_bytes())?;
            let path = file(format!("svid.{i}.key"));
            writeln!(console.out(), "Writing key #{i} to file {}.", path.display())?;
            write_file(&path, SECRET, pem::encode("PRIVATE KEY", &svid.key).as_bytes())?;
            let path = file(format!("bundle.{i}.pem"));
            writeln!(console.out(), "Writing bundle #{i} to file {}.", path.display())?;
            write_file(&path, PUBLIC, pem::encode_certificates(&svid.bundle).as_bytes())?;
            for (j, (name, bundle)) in svid.federated.iter().enumerate() {
                let path = file(format!("federated_bundle.{i}.{j}.pem"));
                let domain = name.trim_start_matches("spiffe://");
                writeln!(
                    console.out(),
                    "Writing federated bundle #{j} for trust domain {domain} to file {}.",
                    path.display()
                )?;
                write_file(&path, PUBLIC, pem::encode_certificates(bundle).as_bytes())?;
            }
        }
        Ok(())
    }
}

impl Svid {
    fn print(&self, out: &mut dyn Write) -> Result<(), CliError> {
        writeln!(out, "SPIFFE ID:\t\t{}", self.spiffe_id)?;
        if !self.hint.is_empty() {
            writeln!(out, "Hint:\t\t\t{}", self.hint)?;
        }
        for (number, certificate) in self.chain.iter().enumerate() {
            let name = if number == 0 { "SVID".to_owned() } else { format!("Intermediate #{number}") };
            print_life(&name, certificate, out)?;
        }
        for (index, authority) in self.bundle.iter().enumerate() {
            print_life(&format!("CA #{}", index + 1), authority, out)?;
        }
        for (name, bundle) in &self.federated {
            for (index, authority) in bundle.iter().enumerate() {
                let domain = name.trim_start_matches("spiffe://");
                print_life(&format!("[{domain}] CA #{}", index + 1), authority, out)?;
            }
        }
        Ok(())
    }
}

fn print_life(name: &str, certificate: &CertificateDer<'_>, out: &mut dyn Write) -> Result<(), CliError> {
    let info = CertInfo::parse(certificate)?;
    writeln!(out, "{name} Valid After:\t{}", go_time(info.not_before))?;
    Ok(writeln!(out, "{name} Valid Until:\t{}", go_time(info.not_after))?)
}

/// A time as Go prints it, for scripts that read SPIRE's output.
fn go_time(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    let time = Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
    time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string()
}

/// Writes a file whole or not at all, with its mode from the first byte on.
fn write_file(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), CliError> {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let write = || {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|error| CliError::File { path: path.to_owned(), error })
}

/// As protojson writes it: bytes in base64, all fields there.
fn to_json(response: &X509svidResponse) -> Value {
    let svids: Vec<Value> = response
        .svids
        .iter()
        .map(|svid| {
            json!({
                "spiffe_id": svid.spiffe_id,
                "x509_svid": BASE64.encode(&svid.x509_svid),
                "x509_svid_key": BASE64.encode(&svid.x509_svid_key),
                "bundle": BASE64.encode(&svid.bundle),
                "hint": svid.hint,
            })
        })
        .collect();
    let federated: BTreeMap<&String, String> =
        response.federated_bundles.iter().map(|(name, der)| (name, BASE64.encode(der))).collect();
    let crl: Vec<String> = response.crl.iter().map(|crl| BASE64.encode(crl)).collect();
    json!({ "svids": svids, "crl": crl, "federated_bundles": federated })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use svidecar_process::testing::captured;

    use super::*;
    use crate::{
        cache::{Cache, Change},
        entry::tests::entry,
        selector::{Selector, SelectorSet},
        testing::{bundle_of, ca_of, held, now, trust_domain},
    };

    fn response() -> X509svidResponse {
        let (ca, partner) = (ca_of("demo.org"), ca_of("partner.org"));
        let mut cache = Cache::new(trust_domain(), [bundle_of(&ca), bundle_of(&partner)]);
        let mut entry = entry("e1", "/a", &["uid:1"]);
        entry.hint = "internal".into();
        entry.federates_with = vec![partner.trust_domain().clone()];
        cache.apply(Change { entries: vec![entry], ..Change::default() }, now());
        let due = cache.take_due(now(), 1);
        let signed = due.into_iter().map(|entry| (entry, held(&ca, "/a"))).collect();
        cache.signed(signed, now(), now());
        let selectors: SelectorSet = [Selector::new("unix", "uid:1")].into_iter().collect();
        let updates = cache.subscribe(&selectors, now());
        let message = updates.borrow().x509.clone().unwrap();
        X509svidResponse::clone(&message)
    }

    #[test]
    fn the_text_is_spires() {
        let mut out = Vec::new();
        let received = Received::read(&response()).unwrap();
        received.print(Duration::from_micros(1200), &mut out).unwrap();
        let expected = "Received 1 svid after 1.2ms\n\n\
            SPIFFE ID:\t\tspiffe://demo.org/a\n\
            Hint:\t\t\tinternal\n\
            SVID Valid After:\t2026-09-21 14:13:10 +0000 UTC\n\
            SVID Valid Until:\t2026-09-21 15:13:20 +0000 UTC\n\
            CA #1 Valid After:\t2026-09-21 14:13:10 +0000 UTC\n\
            CA #1 Valid Until:\t2026-09-22 14:13:20 +0000 UTC\n\
            [partner.org] CA #1 Valid After:\t2026-09-21 14:13:10 +0000 UTC\n\
            [partner.org] CA #1 Valid Until:\t2026-09-22 14:13:20 +0000 UTC\n\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn the_files_are_spires_and_the_key_is_secret() {
        let dir = tempfile::tempdir().unwrap();
        let received = Received::read(&response()).unwrap();
        received.write(dir.path(), &mut captured().0).unwrap();
        let mut names: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["bundle.0.pem", "federated_bundle.0.0.pem", "svid.0.key", "svid.0.pem"]);
        let mode = std::fs::metadata(dir.path().join("svid.0.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let key = std::fs::read(dir.path().join("svid.0.key")).unwrap();
        svidecar_authority::key::PrivateKey::from_pem(&key).unwrap();
    }
}
