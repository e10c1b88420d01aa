//! TLS faults at bad moments and with bad files. Each of these tests comes from a real failure.

use std::io::ErrorKind;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use getty_core::layer::tls::TlsError;
use getty_core::{Close, Config, Memory};
use getty_driver::tls::{ClientCertificates, ClientTls, Identity, ServerTls};
use rustls::CertificateError;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use testkit::pair::Pair;

use crate::common::{plain, secs};
use crate::solo::{Solo, shaken};
use crate::tls_common::*;

/// No record has this type.
const GARBAGE: &[u8] = &[99; 40];

const ENDED: &str = "Closed: TLS: the peer ended the stream during the handshake: does it speak TLS?";

/// Sealed bytes are written in any case, since the alert follows them. What the peer makes of them is
/// unknown.
#[test]
fn what_was_sealed_before_a_fault_is_not_told_as_unsent() {
    let world = World::new();
    let (mut client, mut server) = shaken(&world);
    client.session.send(Bytes::from("x")).unwrap();
    drop(client.session.outbound(client.clock.now())); // sealed, but the transport is full
    client.session.send(Bytes::from("never sealed")).unwrap();
    client.input(GARBAGE);
    client.poll();
    server.input(&client.written());
    assert!(server.poll().contains(&"Message x".to_owned()));
    let progress = client.session.stats().progress;
    assert_eq!((progress.flushed, progress.unknown.map(|seq| seq.get())), (None, Some(1)));
}

#[test]
fn what_is_not_known_stays_so_when_the_transport_fails_too() {
    let world = World::new();
    let (mut client, _server) = shaken(&world);
    client.session.send(Bytes::from(vec![1; 1000])).unwrap();
    let now = client.clock.now();
    client.session.outbound(now).advance(500);
    client.input(GARBAGE);
    client.poll();
    assert!(client.session.stats().progress.unknown.is_some());
    client.session.handle_io_error(now, ErrorKind::ConnectionReset);
    client.poll();
    assert!(client.session.stats().progress.unknown.is_some());
}

#[test]
fn a_partial_record_behind_a_whole_message_is_watched() {
    let world = World::new();
    let (mut client, mut server) = shaken(&world);
    client.session.send(Bytes::from("one")).unwrap();
    let mut wire = client.written();
    client.session.send(Bytes::from(vec![0; 500])).unwrap();
    wire.extend_from_slice(&client.written()[..300]);
    server.input(&wire);
    assert_eq!(server.poll(), ["Message one"]);
    for at in [30, 31, 61] {
        let now = server.clock.jump(server.clock.at(secs(at)));
        server.session.handle_timeout(now);
    }
    assert_eq!(
        server.poll(),
        ["Closed: timed out: a frame stayed incomplete (Config::partial_frame_timeout)"]
    );
}

#[test]
fn close_notify_is_said_by_a_session_that_holds_no_memory() {
    let world = World::new();
    let (mut client, _server) = shaken(&world);
    client.session.lend(Memory::new());
    let _ = client.session.take_back();
    client.session.close(client.clock.now(), Close::graceful());
    assert!(client.session.wants_write());
    assert!(!client.written().is_empty() && client.session.wants_shutdown());
}

#[test]
fn an_end_and_a_close_before_the_first_write_leave_nothing_to_write() {
    let world = World::new();
    let mut client = Solo::new(client(world.client_config(), plain()));
    client.session.handle_eof(client.clock.now());
    client.session.close(client.clock.now(), Close::graceful());
    assert_eq!(client.poll(), [ENDED]);
    client.written();
    assert!(!client.session.wants_write() && !client.session.wants_shutdown(), "nothing is left to do");

    let mut client = Solo::new(self::client(world.client_config(), plain()));
    client.session.close(client.clock.now(), Close::graceful());
    client.session.handle_eof(client.clock.now());
    client.poll();
    client.written();
    assert!(!client.session.wants_write());
    assert!(client.session.wants_shutdown());
}

/// A server without TLS may end like this, and so may a client that only checks whether the port is open.
#[test]
fn an_end_in_the_handshake_is_named() {
    let world = World::new();
    let mut theirs = Solo::new(server(world.server_config(), plain()));
    let hello = Solo::new(client(world.client_config(), plain())).written();
    theirs.input(&hello);
    let answer = theirs.written();
    for cut in 0..answer.len() {
        let mut client = Solo::new(client(world.client_config(), plain()));
        client.written();
        client.input(&answer[..cut]);
        client.session.handle_eof(client.clock.now());
        assert_eq!(client.poll(), [ENDED], "cut at {cut}");
    }
    for cut in 0..=hello.len() {
        let mut server = Solo::new(server(world.server_config(), plain()));
        server.input(&hello[..cut]);
        server.session.handle_eof(server.clock.now());
        assert_eq!(server.poll(), [ENDED], "cut at {cut}");
        assert!(!server.session.wants_write());
    }
}

/// A peer that speaks something else is reported as such. After the handshake, the same bytes are only
/// corrupt.
#[test]
fn a_peer_that_speaks_no_tls_is_named() {
    let world = World::new();
    const OTHER: &str = "Closed: TLS: the peer speaks another protocol";
    for words in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"220 mail.example ESMTP\r\n", b"\0\0\0\x05hello", GARBAGE]
    {
        let mut client = Solo::new(client(world.client_config(), plain()));
        let mut server = Solo::new(server(world.server_config(), plain()));
        client.written();
        for end in [&mut client, &mut server] {
            end.input(words);
            assert!(!end.written().is_empty(), "an alert is written");
            end.session.handle_shutdown(end.clock.now());
            end.session.handle_eof(end.clock.now());
            assert_eq!(end.poll(), [OTHER]);
        }
    }
    let (mut client, _server) = shaken(&world);
    client.input(GARBAGE);
    client.written();
    client.session.handle_shutdown(client.clock.now());
    client.session.handle_eof(client.clock.now());
    assert_eq!(client.poll(), ["Closed: TLS: received corrupt message of type InvalidContentType"]);
}

#[test]
fn nothing_is_said_after_the_sending_side_was_ended() {
    let world = World::new();
    let mut client = Solo::new(client(world.client_config(), plain()));
    let mut server = Solo::new(server(world.server_config(), plain()));
    server.input(&client.written());
    client.session.close(client.clock.now(), Close::graceful()); // during the handshake
    assert!(client.written().is_empty());
    assert!(client.session.wants_shutdown());
    client.session.handle_shutdown(client.clock.now());
    client.input(&server.written());
    assert!(!client.session.wants_write() && client.written().is_empty());
}

#[test]
fn a_message_that_comes_with_the_end_of_the_handshake_is_delivered_before_a_fault() {
    let world = World::new();
    for together in [false, true] {
        let mut client = Solo::new(client(world.client_config(), plain()));
        let mut server = Solo::new(server(world.server_config(), plain()));
        server.input(&client.written());
        client.input(&server.written());
        let mut wire = client.written();
        client.session.send(Bytes::from("good")).unwrap();
        wire.extend(client.written());
        if together {
            wire.extend_from_slice(GARBAGE);
            server.input(&wire);
        } else {
            server.input(&wire);
            server.input(GARBAGE);
        }
        assert_eq!(server.poll(), ["Open", "Message good"], "together: {together}");
    }
}

/// rustls keeps positions in the received bytes, and panics when they are gone.
#[test]
fn input_after_the_end_of_the_transport_is_ignored() {
    let world = World::new();
    let mut theirs = world.server_config();
    theirs.max_fragment_size = Some(64);
    let mut client = Solo::new(client(world.client_config(), plain()));
    let mut server = Solo::new(server_of(&Arc::new(theirs), plain()));
    server.input(&client.written());
    client.input(&server.written());
    server.input(&client.written());
    client.input(&server.written()[..100]); // part of a ticket
    client.session.close(client.clock.now(), Close::graceful());
    client.session.handle_eof(client.clock.now());
    client.input(b"late");
    assert!(!client.written().is_empty());
}

/// A payload that would be chained is sealed together with its header.
#[test]
fn a_batch_is_sealed_in_as_few_records_as_there_can_be() {
    let world = World::new();
    let (mut client, _server) = shaken(&world);
    for _ in 0..2 {
        client.session.send(Bytes::from(vec![1; 10_000])).unwrap();
    }
    let wire = client.written();
    let (mut records, mut rest) = (0, &wire[..]);
    while let [_, _, _, high, low, ..] = rest {
        records += 1;
        rest = &rest[5 + usize::from(u16::from_be_bytes([*high, *low]))..];
    }
    assert_eq!(records, 2, "20 008 bytes, with 16 KiB in a record");
}

/// Empty input, and a write of more than there is, change nothing.
#[test]
fn empty_reads_and_writes_are_nothing() {
    let world = World::new();
    let (mut client, mut server) = shaken(&world);
    client.input(&[]);
    assert!(client.written().is_empty() && client.poll().is_empty());
    client.session.outbound(client.clock.now()).advance(100);
    client.session.send(Bytes::new()).unwrap();
    server.input(&client.written());
    assert_eq!(server.poll(), ["Message "]);
}

/// `openssl req -x509` makes such a certificate by default, and rustls does not accept it from a server.
#[test]
fn a_certificate_of_an_authority_is_named_as_such() {
    let authority = Authority::new("localhost");
    let server_config = server_config(&authority.itself(), &rustls::version::TLS13);
    let ours = client_config(&authority, &rustls::version::TLS13);
    let mut pair =
        Pair::new(client(ours, plain()), server(server_config, plain()), Config::builder().build().unwrap());
    assert!(pair.run_until_closed(secs(1)));
    assert_eq!(
        pair.a.close_reason().unwrap().to_string(),
        "TLS: the peer's certificate is not accepted: it is a CA certificate (CA:TRUE), which can only sign others"
    );
}

/// The error of a client that asks for `example.org`, about a certificate for these names: the part that
/// lists them.
fn told_of(names: &[&str]) -> String {
    let world = World::new();
    let theirs = server_config(&world.authority.sign(names), &rustls::version::TLS13);
    let ours = Arc::new(world.client_config());
    let mut pair =
        Pair::new(client_of("example.org", ours, plain()), server(theirs, plain()), Config::default().into());
    assert!(pair.run_until_closed(secs(1)));
    let told = pair.a.close_reason().unwrap().to_string();
    let start = "TLS: the peer's certificate is not accepted: it is not for example.org but for ";
    told.strip_prefix(start).unwrap_or_else(|| panic!("{told}")).to_owned()
}

/// An untrusted peer chooses these names, and they reach terminals and logs.
#[test]
fn names_in_certificates_are_shown_as_what_they_are() {
    let address = &["localhost", "::1", "127.0.0.1"];
    assert_eq!(told_of(address), "localhost, 0::1, 127.0.0.1");
    assert_eq!(told_of(&["*.example.net"]), "*.example.net");
    assert_eq!(told_of(&[]), "no name at all");
    let evil = "a\n\x1b[31mgetty: all is well\r\0\x7f\"), DnsName(\"b";
    let told = told_of(&[evil]);
    assert_eq!(told, r#"a\n\u{1b}[31mgetty: all is well\r\u{0}\u{7f}\"), DnsName(\"b"#);
    // Names that the certificates of these tests can't hold.
    let shown = |name: &str| {
        let expected = rustls::pki_types::ServerName::try_from("h").unwrap();
        let presented = vec![name.to_owned()];
        let error = CertificateError::NotValidForNameContext { expected, presented };
        TlsError::Certificate(error).to_string().split_once("it is not for h but for ").unwrap().1.to_owned()
    };
    assert_eq!(shown("DnsName(\"\u{202e}\u{fffd}\u{e9}\")"), r"\u{202e}\u{fffd}\u{e9}");
    assert_eq!(shown("UniformResourceIdentifier(\"urn:x\n\")"), r"urn:x\n");
    assert_eq!(shown("DirectoryName"), "a directory name");
    assert_eq!(shown("Unsupported(0x81)"), "a name of another kind");
}

#[test]
fn many_names_are_not_all_shown() {
    let names: Vec<String> = (0..100).map(|n| format!("{n}.{}", "x".repeat(500))).collect();
    let told = told_of(&names.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(told.starts_with("0.xxx") && told.ends_with(" and 90 others"), "{told}");
    assert!(told.len() < 3000, "{}", told.len());
}

/// The error about trusted authorities in a bad file, at both ends.
fn of_authorities(file: &[u8]) -> String {
    let told = ClientTls::builder().roots_pem(file).build().map(drop).unwrap_err().to_string();
    let world = World::new();
    let identity = Identity::from_pem(world.server.certificate.as_bytes(), world.server.key.as_bytes());
    let clients = ClientCertificates::Required(file.to_owned());
    let server = ServerTls::builder(identity.unwrap()).client_certificates(clients).build();
    assert_eq!(server.map(drop).unwrap_err().to_string(), told);
    told
}

/// The error about a server's certificate chain in a bad file.
fn of_chain(file: &[u8]) -> String {
    let world = World::new();
    let identity = Identity::from_pem(file, world.server.key.as_bytes());
    identity.and_then(ServerTls::new).map(drop).unwrap_err().to_string()
}

/// The error about a private key in a bad file, at both ends.
fn of_key(file: &[u8]) -> String {
    let world = World::new();
    let identity = || Identity::from_pem(world.server.certificate.as_bytes(), file);
    let client = identity().and_then(|identity| {
        ClientTls::builder().roots_pem(world.authority.pem()).identity(identity).build()
    });
    let told = identity().and_then(ServerTls::new).map(drop).unwrap_err().to_string();
    assert_eq!(client.map(drop).unwrap_err().to_string(), told);
    told
}

const BOM: &str = "\u{feff}";

#[test]
fn files_of_the_wrong_form_are_called_by_their_name() {
    let world = World::new();
    let (good, key) = (world.authority.pem(), &world.server.key);
    let der = world.authority.itself().chain()[0].to_vec();
    for of in [of_authorities, of_chain] {
        assert!(of(&der).starts_with("expected PEM, found DER"), "{}", of(&der));
        let bom = "a byte order mark (BOM) stands before -----BEGIN: save the file as plain text without one";
        assert_eq!(of(format!("{BOM}{good}").as_bytes()), bom);
        // In concatenated files, the second one would be silently ignored.
        assert_eq!(of(format!("{good}{BOM}{good}").as_bytes()), bom);
        let utf16: Vec<u8> = format!("{BOM}{good}").encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(of(&utf16), bom);
        let lines = good.lines().count();
        let indented = format!("{good}  {}", good.replace('\n', "\n  "));
        let told = format!("line {}: -----BEGIN has to be at the beginning of its line", lines + 1);
        assert_eq!(of(indented.as_bytes()), told);
        let trusted = good.replace("CERTIFICATE", "TRUSTED CERTIFICATE");
        let told = format!(
            "certificate 2 (line {}): TRUSTED CERTIFICATE is a form that only OpenSSL reads: convert it \
             first (openssl x509 -in FILE -out PLAIN)",
            lines + 1
        );
        assert_eq!(of(format!("{good}{trusted}{good}").as_bytes()), told);
    }
    let key_der = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    assert!(of_key(key_der.secret_der()).starts_with("expected PEM, found DER"));
    assert!(of_key(format!("{BOM}{key}").as_bytes()).starts_with("a byte order mark"));
    assert!(of_key(format!("\t{key}").as_bytes()).starts_with("line 1: -----BEGIN"));
}

#[test]
fn the_bad_entry_of_a_bundle_is_named() {
    let world = World::new();
    let good = world.server.certificate.clone() + &world.authority.pem();
    let lines = good.lines().count();
    let body = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for of in [of_authorities, of_chain] {
        for (bad, words) in [
            (body.to_owned(), "BadEncoding"),
            (body.replace("AAAA", "A!AA"), "base64"),
            (body.replace("-----END CERTIFICATE-----\n", ""), "-----END CERTIFICATE-----"),
            (body.replace("-----END", "----END"), "-----END CERTIFICATE-----"),
        ] {
            for newline in ["\n", "\r\n"] {
                let file = format!("{good}{bad}{good}").replace('\n', newline);
                let told = of(file.as_bytes());
                assert!(told.contains(&format!("certificate 3 (line {}): ", lines + 1)), "{told}");
                assert!(told.contains(words) && !told.contains("peer"), "{told}");
            }
        }
    }
}

/// A `PRIVATE KEY` for the algorithm with these bytes as its identifier, with these parameters and a bad key.
fn pkcs8(algorithm: &[u8], parameters: &[u8], key: &[u8]) -> String {
    let algorithm = der(0x30, &[der(6, algorithm), parameters.to_owned()].concat());
    pem("PRIVATE KEY", &der(0x30, &[der(2, &[0]), algorithm, der(4, key)].concat()))
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[tag, 0x82], &length[..], content].concat()
}

fn pem(label: &str, der: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = |three: &[u8]| {
        let bits =
            three.iter().fold(0, |bits, &byte| bits << 8 | usize::from(byte)) << (8 * (3 - three.len()));
        let digit =
            move |n| if n <= three.len() { char::from(DIGITS[bits >> (18 - 6 * n) & 63]) } else { '=' };
        [0, 1, 2, 3].map(digit)
    };
    let body: String = der.chunks(3).flat_map(digits).collect();
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

#[test]
fn a_damaged_key_of_a_type_that_is_supported_is_called_damaged() {
    const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
    let rsa = |bytes| {
        der(0x30, &[der(2, &[0]), der(2, &[vec![0], vec![0xff; bytes]].concat()), der(2, &[3])].concat())
    };
    let p256 = der(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7]);
    for (key, kind) in [
        (pkcs8(RSA, &der(5, &[]), &rsa(256)), "RSA of 2048 bits"),
        (pem("RSA PRIVATE KEY", &rsa(256)), "RSA of 2048 bits"),
        (pem("RSA PRIVATE KEY", &rsa(512)), "RSA of 4096 bits"),
        (pkcs8(EC, &p256, &[1]), "EC on the curve P-256"),
        (pkcs8(EC, &der(6, &[0x2b, 0x81, 4, 0, 34]), &[1]), "EC on the curve P-384"),
        (pkcs8(&[0x2b, 0x65, 112], &[], &[1]), "Ed25519"),
    ] {
        let text = of_key(key.as_bytes());
        let told = format!("it is {kind} in an unsupported form, or damaged; expected RSA of 2048");
        assert!(text.contains(&told), "{text}");
    }
}

#[test]
fn keys_that_are_not_supported_are_called_by_their_type() {
    const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
    let rsa = der(0x30, &[der(2, &[0]), der(2, &[&[0], &[0xff; 128][..]].concat())].concat());
    let sec1 = [der(2, &[1]), der(4, &[1; 32]), der(0xa0, &der(6, &[0x2b, 0x81, 4, 0, 10]))].concat();
    for (key, kind) in [
        (pkcs8(EC, &der(6, &[0x2b, 0x81, 4, 0, 35]), &[]), "EC on the curve P-521"),
        (pkcs8(EC, &der(6, &[0x2b, 0x24, 3, 3, 2, 8, 1, 1, 7]), &[]), "EC on the curve 1.3.36.3.3.2.8.1.1.7"),
        (pem("EC PRIVATE KEY", &der(0x30, &sec1)), "EC on the curve secp256k1"),
        (pkcs8(&[0x2b, 0x65, 113], &[], &[]), "Ed448"),
        (pkcs8(&[0x2b, 0x65, 110], &[], &[]), "X25519"),
        (pkcs8(&[0x2a, 0x86, 0x48, 0xce, 0x38, 4, 1], &[], &[]), "DSA"),
        (pkcs8(&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 3, 17], &[], &[]), "of the type 2.16.840.1.101.3.4.3.17"),
        (pkcs8(RSA, &der(5, &[]), &rsa), "RSA of 1024 bits"),
        (pem("RSA PRIVATE KEY", &rsa), "RSA of 1024 bits"),
        (pem("DSA PRIVATE KEY", &rsa), "of the form DSA PRIVATE KEY"),
        (pem("OPENSSH PRIVATE KEY", b"openssh-key-v1"), "of the form OPENSSH PRIVATE KEY"),
        (pem("PRIVATE KEY", &[0x30, 0x82, 0xff]), "of an unknown form"),
    ] {
        let expected = "expected RSA of 2048 to 4096 bits, EC on the curve P-256 or P-384, or Ed25519";
        assert_eq!(
            of_key(key.as_bytes()),
            format!("the private key can't be used: it is {kind}; {expected}")
        );
    }
}
