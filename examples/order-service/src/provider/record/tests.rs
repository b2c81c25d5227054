//! Tests of the record of the provider.

use tempfile::TempDir;

use super::*;

fn request(kind: EffectKind, key: &str, of: Option<&str>, cents: u64) -> EffectRequest {
    EffectRequest { kind, key: key.to_owned(), of: of.map(ToOwned::to_owned), saga: "fulfilment:1".to_owned(), cents }
}

fn opened(dir: &TempDir) -> ProviderRecord {
    ProviderRecord::open(&dir.path().join("effects")).expect("it opens")
}

fn performed(record: &mut ProviderRecord, request: EffectRequest) -> Result<u64, Refusal> {
    record.perform(request).expect("the file is written").map(|effect| effect.cents)
}

#[test]
fn a_repeat_has_no_second_effect_also_after_a_restart() {
    let dir = TempDir::new().expect("a directory");
    let pay = || request(EffectKind::Payment, "p", None, 500);
    let mut record = opened(&dir);
    assert_eq!(performed(&mut record, pay()), Ok(500));
    assert_eq!(performed(&mut record, pay()), Ok(500));
    drop(record);
    let mut record = opened(&dir);
    assert_eq!(performed(&mut record, pay()), Ok(500));
    assert_eq!(record.effects().len(), 1);
    let other = request(EffectKind::Shipment, "p", None, 0);
    assert_eq!(performed(&mut record, other), Err(Refusal::OtherRequest { key: "p".to_owned() }));
}

#[test]
fn a_payment_that_arrives_after_its_refund_is_refused() {
    let dir = TempDir::new().expect("a directory");
    let mut record = opened(&dir);
    assert_eq!(performed(&mut record, request(EffectKind::Refund, "r", Some("p"), 0)), Ok(0));
    let late = request(EffectKind::Payment, "p", None, 500);
    assert_eq!(performed(&mut record, late), Err(Refusal::Undone { key: "p".to_owned() }));
    let cancelled = request(EffectKind::Cancellation, "c", Some("s"), 0);
    assert_eq!(performed(&mut record, cancelled), Ok(0));
    let late = request(EffectKind::Shipment, "s", None, 0);
    assert_eq!(performed(&mut record, late), Err(Refusal::Undone { key: "s".to_owned() }));
}

#[test]
fn a_refund_returns_what_was_paid_once() {
    let dir = TempDir::new().expect("a directory");
    let mut record = opened(&dir);
    performed(&mut record, request(EffectKind::Payment, "p", None, 500)).expect("paid");
    assert_eq!(performed(&mut record, request(EffectKind::Refund, "r", Some("p"), 0)), Ok(500));
    assert_eq!(performed(&mut record, request(EffectKind::Refund, "r2", Some("p"), 0)), Ok(0));
    assert!(record.is_undone("p") && !record.is_paid("p"));
}

#[test]
fn a_customer_pays_an_invoice_once_and_not_after_the_refund() {
    let dir = TempDir::new().expect("a directory");
    let mut record = opened(&dir);
    let pay = |key: &str, of: &str| request(EffectKind::Payment, key, Some(of), 0);
    let no_invoice = |key: &str| Err(Refusal::NoInvoice { key: key.to_owned() });
    assert_eq!(performed(&mut record, pay("c", "i")), no_invoice("i"));
    performed(&mut record, request(EffectKind::Invoice, "i", None, 700)).expect("it is owed");
    assert!(!record.is_paid("i"));
    assert_eq!(performed(&mut record, pay("c", "i")), Ok(700));
    assert!(record.is_paid("i"));
    assert_eq!(performed(&mut record, pay("c2", "i")), no_invoice("i"));
    performed(&mut record, request(EffectKind::Invoice, "j", None, 700)).expect("it is owed");
    performed(&mut record, request(EffectKind::Refund, "r", Some("j"), 0)).expect("it is closed");
    assert_eq!(performed(&mut record, pay("c3", "j")), Err(Refusal::Undone { key: "j".to_owned() }));
}

#[test]
fn an_incomplete_last_line_is_removed_and_a_broken_line_is_an_error() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("effects");
    performed(&mut opened(&dir), request(EffectKind::Payment, "p", None, 500)).expect("paid");
    let complete = std::fs::read(&path).expect("it reads");
    std::fs::write(&path, [&complete[..], b"{\"kind\":\"pay"].concat()).expect("it writes");
    assert_eq!(read_record(&path).expect("it reads").len(), 1);
    assert_eq!(opened(&dir).effects().len(), 1);
    assert_eq!(std::fs::read(&path).expect("it reads"), complete);
    std::fs::write(&path, b"{}\n").expect("it writes");
    assert!(matches!(read_record(&path), Err(RecordError::Line { line: 1, .. })));
    assert_eq!(read_record(&dir.path().join("missing")).expect("no effects"), []);
}
