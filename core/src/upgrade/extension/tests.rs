use super::*;

/// Options without demands: the result is what the peer asks for.
fn open() -> Deflate {
    Deflate::new().server_no_context_takeover(false).client_no_context_takeover(false)
}

fn params(server_no: bool, client_no: bool, server_bits: u8, client_bits: u8) -> Params {
    Params {
        server_no_context_takeover: server_no,
        client_no_context_takeover: client_no,
        server_max_window_bits: server_bits,
        client_max_window_bits: client_bits,
    }
}

fn accept(deflate: &Deflate, offer: &str) -> Option<(Params, String)> {
    deflate.accept([offer].into_iter())
}

fn check(deflate: &Deflate, answer: &str) -> Result<Option<Params>, NegotiationError> {
    deflate.check_answer([answer].into_iter())
}

#[test]
fn offers_that_a_server_without_wishes_accepts() {
    let table = [
        ("permessage-deflate", params(false, false, 15, 15), "permessage-deflate"),
        ("permessage-deflate; client_max_window_bits", params(false, false, 15, 15), "permessage-deflate"),
        ("permessage-deflate; client_max_window_bits=15", params(false, false, 15, 15), "permessage-deflate"),
        (
            "permessage-deflate; client_max_window_bits=8",
            params(false, false, 15, 8),
            "permessage-deflate; client_max_window_bits=8",
        ),
        (
            "permessage-deflate; server_max_window_bits=15",
            params(false, false, 15, 15),
            "permessage-deflate; server_max_window_bits=15",
        ),
        (
            "permessage-deflate; server_max_window_bits=9; client_max_window_bits=9",
            params(false, false, 9, 9),
            "permessage-deflate; server_max_window_bits=9; client_max_window_bits=9",
        ),
        (
            "permessage-deflate; server_max_window_bits=\"10\"; client_max_window_bits=\"8\"",
            params(false, false, 10, 8),
            "permessage-deflate; server_max_window_bits=10; client_max_window_bits=8",
        ),
        (
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            params(true, true, 15, 15),
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        ),
        (
            "\tpermessage-deflate ;server_max_window_bits = 8;client_no_context_takeover ",
            params(false, true, 8, 15),
            "permessage-deflate; client_no_context_takeover; server_max_window_bits=8",
        ),
    ];
    for (offer, agreed, answer) in table {
        assert_eq!(accept(&open(), offer), Some((agreed, answer.to_owned())), "{offer}");
    }
}

#[test]
fn a_servers_wishes_are_in_its_answer() {
    let deflate = Deflate::new().server_max_window_bits(12).client_max_window_bits(10);
    let table = [
        // The client did not announce that it can limit its window.
        (
            "permessage-deflate",
            params(true, true, 12, 15),
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
             server_max_window_bits=12",
        ),
        (
            "permessage-deflate; client_max_window_bits",
            params(true, true, 12, 10),
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
             server_max_window_bits=12; client_max_window_bits=10",
        ),
        (
            "permessage-deflate; client_max_window_bits=9; server_max_window_bits=11",
            params(true, true, 11, 9),
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
             server_max_window_bits=11; client_max_window_bits=9",
        ),
        (
            "permessage-deflate; client_max_window_bits=14; server_max_window_bits=13",
            params(true, true, 12, 10),
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
             server_max_window_bits=12; client_max_window_bits=10",
        ),
    ];
    for (offer, agreed, answer) in table {
        assert_eq!(accept(&deflate, offer), Some((agreed, answer.to_owned())), "{offer}");
    }
}

/// Parameters that are valid neither in an offer nor in an answer.
const INVALID: &[&str] = &[
    "server_max_window_bits",
    "server_max_window_bits=",
    "server_max_window_bits=\"\"",
    "server_max_window_bits=0",
    "server_max_window_bits=1",
    "server_max_window_bits=7",
    "server_max_window_bits=16",
    "server_max_window_bits=20",
    "server_max_window_bits=08",
    "server_max_window_bits=010",
    "server_max_window_bits=+8",
    "server_max_window_bits=-8",
    "server_max_window_bits=8.0",
    "server_max_window_bits=1 0",
    "server_max_window_bits=1000",
    "server_max_window_bits=18446744073709551624",
    "server_max_window_bits=abc",
    "server_max_window_bits=\"abc\"",
    "server_max_window_bits=\"10",
    "server_max_window_bits=10\"",
    "server_max_window_bits=\"",
    "server_max_window_bits==10",
    "server_max_window_bits=10=10",
    "client_max_window_bits=",
    "client_max_window_bits=7",
    "client_max_window_bits=16",
    "client_max_window_bits=08",
    "client_max_window_bits=abc",
    "client_max_window_bits=\u{661}\u{660}",
    "server_no_context_takeover=",
    "server_no_context_takeover=1",
    "server_no_context_takeover=10",
    "server_no_context_takeover=true",
    "client_no_context_takeover=15",
    "client_no_context_takeover=\"\"",
    "Server_no_context_takeover",
    "no_context_takeover",
    "mem_level=8",
    "=",
    "=10",
    "\"",
    "",
    "server_no_context_takeover server_max_window_bits=10",
];

const REPEATED: &[&str] = &[
    "server_no_context_takeover; server_no_context_takeover",
    "client_no_context_takeover; client_no_context_takeover",
    "server_max_window_bits=10; server_max_window_bits=10",
    "server_max_window_bits=10; server_no_context_takeover; server_max_window_bits=11",
    "client_max_window_bits=10; client_max_window_bits=10",
];

#[test]
fn a_server_declines_offers_it_does_not_understand() {
    let in_an_offer = [
        "client_max_window_bits; client_max_window_bits",
        "client_max_window_bits; client_max_window_bits=10",
    ];
    for parameters in INVALID.iter().chain(REPEATED).chain(&in_an_offer) {
        let offer = format!("permessage-deflate; {parameters}");
        assert_eq!(accept(&open(), &offer), None, "{offer}");
        // The next offer counts. An unclosed quote includes the rest of its header.
        let next = "permessage-deflate; server_max_window_bits=11";
        let expected = Some((params(false, false, 11, 15), next.to_owned()));
        assert_eq!(open().accept([&*offer, next].into_iter()), expected, "{offer}");
        if offer.matches('"').count() % 2 == 0 {
            assert_eq!(accept(&open(), &format!("{offer}, {next}")), expected, "{offer}");
        }
    }
    for nothing in
        ["", ",", " , ,", ";", "x-webkit-deflate-frame", "permessage-deflate2", "\"permessage-deflate\""]
    {
        assert_eq!(accept(&open(), nothing), None, "{nothing}");
    }
}

#[test]
fn a_server_takes_the_first_acceptable_offer() {
    let table: [(&[&str], Option<u8>); 8] = [
        (&[], None),
        (&["permessage-deflate; server_max_window_bits=10, permessage-deflate"], Some(10)),
        (&["permessage-deflate, permessage-deflate; server_max_window_bits=10"], Some(15)),
        (
            &["permessage-deflate; x, permessage-deflate; server_max_window_bits=7", "permessage-deflate"],
            Some(15),
        ),
        (
            &[
                "foo; a=\"x, permessage-deflate, y; permessage-deflate\", bar",
                "",
                "permessage-deflate; server_max_window_bits=9",
            ],
            Some(9),
        ),
        (
            &["foo; a=\"\\\", permessage-deflate; \\\\\",permessage-deflate; server_max_window_bits=9"],
            Some(9),
        ),
        (&["foo; permessage-deflate", "foo=permessage-deflate"], None),
        (&["permessage-bzip2;;; ,, permessage-deflate;server_max_window_bits=8,"], Some(8)),
    ];
    for (offers, bits) in table {
        let agreed = open().accept(offers.iter().copied());
        assert_eq!(agreed.map(|(agreed, _)| agreed.server_max_window_bits), bits, "{offers:?}");
    }
}

#[test]
fn a_clients_offer() {
    let table = [
        (
            Deflate::new(),
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits",
        ),
        (open(), "permessage-deflate; client_max_window_bits"),
        (
            open().server_max_window_bits(9).client_max_window_bits(8),
            "permessage-deflate; server_max_window_bits=9; client_max_window_bits=8",
        ),
    ];
    for (deflate, offer) in table {
        assert_eq!(deflate.offer(), offer);
    }
}

#[test]
fn answers_that_a_client_accepts() {
    let limited = open().server_max_window_bits(12).client_max_window_bits(11);
    let table = [
        (open(), "permessage-deflate", params(false, false, 15, 15)),
        (open(), "permessage-deflate; server_no_context_takeover", params(true, false, 15, 15)),
        (open(), "permessage-deflate; client_no_context_takeover", params(false, true, 15, 15)),
        // Not offered, but a server may send it.
        (open(), "permessage-deflate; server_max_window_bits=8", params(false, false, 8, 15)),
        (open(), "permessage-deflate; server_max_window_bits=15", params(false, false, 15, 15)),
        (open(), "permessage-deflate; client_max_window_bits=\"8\"", params(false, false, 15, 8)),
        // Asked for and not granted: if the server keeps its context, the client does too.
        (Deflate::new(), "permessage-deflate", params(false, true, 15, 15)),
        // The offer says that the client does not use the context, whether or not the server asks for it.
        (Deflate::new(), "permessage-deflate; server_no_context_takeover", params(true, true, 15, 15)),
        (limited.clone(), "permessage-deflate; server_max_window_bits=12", params(false, false, 12, 11)),
        (
            limited,
            "permessage-deflate; server_max_window_bits=10; client_max_window_bits=9",
            params(false, false, 10, 9),
        ),
    ];
    for (deflate, answer, agreed) in table {
        assert_eq!(check(&deflate, answer), Ok(Some(agreed)), "{answer}");
    }
    for nothing in [&[][..], &[""], &[",", " "]] {
        assert_eq!(Deflate::new().check_answer(nothing.iter().copied()), Ok(None));
    }
}

#[test]
fn answers_that_a_client_refuses() {
    for parameters in INVALID {
        let answer = format!("permessage-deflate; {parameters}");
        assert_eq!(
            check(&open(), &answer),
            Err(NegotiationError::Parameter { text: parameters.trim().to_owned() }),
            "{answer}"
        );
    }
    for parameters in REPEATED {
        let answer = format!("permessage-deflate; {parameters}");
        let name = parameters.split(['=', ';']).next().unwrap();
        let error = check(&open(), &answer).unwrap_err();
        assert!(matches!(error, NegotiationError::Repeated { name: found } if found == name), "{answer}");
    }
    let limited = open().server_max_window_bits(12).client_max_window_bits(11);
    let not_offered = |name: &str| NegotiationError::NotOffered { extension: name.to_owned() };
    let too_large =
        |parameter, offered, answered| NegotiationError::WindowTooLarge { parameter, offered, answered };
    let table = [
        (
            open(),
            "permessage-deflate; client_max_window_bits",
            NegotiationError::Parameter { text: "client_max_window_bits".to_owned() },
        ),
        (open(), "foo", not_offered("foo")),
        (open(), "permessage-deflate, foo; bar", not_offered("foo")),
        (open(), "Permessage-deflate", not_offered("Permessage-deflate")),
        (open(), ";", not_offered("")),
        (open(), "permessage-deflate, permessage-deflate", NegotiationError::Repeated { name: NAME }),
        (
            Deflate::new().insist_on_server_no_context_takeover(true),
            "permessage-deflate",
            NegotiationError::Missing { parameter: "server_no_context_takeover" },
        ),
        (
            limited.clone(),
            "permessage-deflate",
            NegotiationError::Missing { parameter: "server_max_window_bits" },
        ),
        (
            limited.clone(),
            "permessage-deflate; server_max_window_bits=13",
            too_large("server_max_window_bits", 12, 13),
        ),
        (
            limited,
            "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12",
            too_large("client_max_window_bits", 11, 12),
        ),
    ];
    for (deflate, answer, error) in table {
        assert_eq!(check(&deflate, answer), Err(error), "{answer}");
    }
    assert_eq!(open().check_answer([NAME, NAME].into_iter()), Err(NegotiationError::Repeated { name: NAME }));
}

#[test]
fn the_two_roles_understand_each_other() {
    let mut wishes = Vec::new();
    for flags in 0..4 {
        for server_bits in [8, 11, 15] {
            for client_bits in [8, 12, 15] {
                wishes.push(
                    Deflate::new()
                        .server_no_context_takeover(flags & 1 != 0)
                        .client_no_context_takeover(flags & 2 != 0)
                        .server_max_window_bits(server_bits)
                        .client_max_window_bits(client_bits),
                );
            }
        }
    }
    for client in &wishes {
        for server in &wishes {
            let (agreed, answer) = accept(server, &client.offer()).expect("every offer is acceptable");
            assert_eq!(check(client, &answer), Ok(Some(agreed)), "{} / {answer}", client.offer());
            for wanted in [client.wanted, server.wanted] {
                assert!(agreed.server_no_context_takeover >= wanted.server_no_context_takeover);
                assert!(agreed.client_no_context_takeover >= wanted.client_no_context_takeover);
                assert!(agreed.server_max_window_bits <= wanted.server_max_window_bits);
                assert!(agreed.client_max_window_bits <= wanted.client_max_window_bits);
            }
        }
    }
}

#[test]
fn values_out_of_bounds_count_as_the_nearest() {
    for (bits, counts_as) in [(0, 8), (7, 8), (8, 8), (9, 9), (15, 15), (16, 15), (255, 15)] {
        let deflate = Deflate::new().server_max_window_bits(bits).client_max_window_bits(bits);
        assert_eq!(deflate.wanted, params(true, true, counts_as, counts_as));
    }
    assert_eq!(Deflate::new().level(10), Deflate::new().level(9));
    assert_ne!(Deflate::new().level(0), Deflate::new().level(1));
    assert_eq!(Deflate::new().min_size(7).min_size, 7);
}
