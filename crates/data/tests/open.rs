//! What a run file can ask for, and what it is told when it asks for the wrong thing.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use brigade_data::{DataError, Dataset, Kind, Normalisation, Shape, Spec, open};

fn message(spec: &Spec) -> String {
    open(spec).unwrap_err().to_string()
}

#[test]
fn names_are_parsed_printed_and_listed_alike() {
    for (kind, name, _) in Kind::ALL {
        assert_eq!(name.parse::<Kind>().unwrap(), kind);
        assert_eq!(kind.to_string(), name);
        let json = serde_json::to_string(&Spec::new(kind)).unwrap();
        assert_eq!(serde_json::from_str::<Spec>(&json).unwrap(), Spec::new(kind));
    }
    let error = "minst".parse::<Kind>().unwrap_err();
    assert!(error.is_setting() && error.to_string().contains("mnist, cifar10, folder"), "{error}");
}

#[test]
fn a_run_file_needs_the_kind_only() {
    let spec: Spec = serde_json::from_str(r#"{"kind":"synthetic","shape":[3,8,8]}"#).unwrap();
    assert_eq!(spec.shape, Some(Shape::new(3, 8, 8).unwrap()));
    assert!(serde_json::from_str::<Spec>(r#"{"kind":"synthetic","shape":[3,0,8]}"#).is_err());
    assert!(serde_json::from_str::<Spec>(r#"{"kind":"synthetic","colour":true}"#).is_err());
}

#[test]
fn without_a_path_or_its_files_the_error_names_them() {
    for (kind, file) in
        [(Kind::Mnist, "train-images-idx3-ubyte"), (Kind::Cifar10, "test_batch.bin"), (Kind::Folder, "train/<class>/")]
    {
        assert!(matches!(open(&Spec::new(kind)), Err(DataError::NoPath { .. })));
        assert!(message(&Spec::new(kind)).contains(file));
        let nowhere = Spec { path: Some(PathBuf::from("no such folder")), ..Spec::new(kind) };
        let found = message(&nowhere);
        assert!(found.contains("no such folder") && found.contains(file), "{found}");
        let empty = tempfile::tempdir().unwrap();
        let found = message(&Spec { path: Some(empty.path().to_owned()), ..Spec::new(kind) });
        assert!(found.contains(": no ") && found.contains("looked for"), "{found}");
    }
}

#[test]
fn settings_without_use_or_sense_are_refused() {
    let glyphs = || Spec::new(Kind::Glyphs);
    let synthetic = || Spec::new(Kind::Synthetic);
    for (setting, spec) in [
        ("path", Spec { path: Some(PathBuf::from(".")), ..glyphs() }),
        ("skip_bad", Spec { skip_bad: 1, ..glyphs() }),
        ("train", Spec { train: Some(0), ..glyphs() }),
        ("test", Spec { test: Some(usize::MAX), ..glyphs() }),
        ("classes", Spec { classes: Some(0), ..synthetic() }),
        ("classes", Spec { classes: Some(usize::MAX), ..synthetic() }),
        ("train", Spec { train: Some(5), ..Spec::new(Kind::Mnist) }),
    ] {
        let error = open(&spec).unwrap_err();
        assert!(error.is_setting() && error.to_string().contains(setting), "{error}");
    }
    assert!(Shape::new(usize::MAX, 2, 1).is_err());
}

#[test]
fn a_data_set_in_memory_is_checked_and_normalised() {
    let shape = Shape::new(2, 1, 1).unwrap();
    let names = || vec!["a".to_owned(), "b".to_owned()];
    let test = || (vec![9, 9], vec![0]);
    let good = Dataset::in_memory("own", shape, names(), (vec![0, 7, 255, 7], vec![0, 1]), test());
    let (train, _) = good.unwrap();
    assert_eq!(train.normalisation(), &Normalisation { mean: vec![0.5, 7.0 / 255.0], std: vec![0.5, 0.0] });
    assert_eq!(train.batch(&[1, 0]).unwrap().pixels, [1.0, 0.0, -1.0, 0.0]);
    assert!(matches!(train.batch(&[2]), Err(DataError::Index { index: 2, count: 2 })));
    assert!(matches!(train.sample(2), Err(DataError::Index { .. })));

    let own = Normalisation { mean: vec![0.0; 2], std: vec![1.0; 2] };
    let raw = train.clone().with_normalisation(own).unwrap();
    assert_eq!(raw.batch(&[1]).unwrap().pixels, [1.0, 7.0 / 255.0]);
    assert!(train.with_normalisation(Normalisation { mean: vec![f32::NAN; 2], std: vec![1.0; 2] }).is_err());

    let wrong = |pixels, labels| Dataset::in_memory("own", shape, names(), (pixels, labels), test()).unwrap_err();
    assert!(matches!(wrong(vec![0; 4], vec![0, 2]), DataError::Label { sample: 1, label: 2, classes: 2, .. }));
    assert!(matches!(wrong(vec![0; 3], vec![0, 1]), DataError::Length { wanted: 4, found: 3, .. }));
    assert!(matches!(wrong(vec![], vec![]), DataError::Empty { .. }));
}

#[test]
fn the_fingerprint_sees_every_pixel_and_label_of_the_training_split() {
    let shape = Shape::new(1, 2, 2).unwrap();
    let print = |pixels: &[u8], labels: &[u32], test: u8| {
        let names = vec!["a".to_owned(), "b".to_owned()];
        let train = (pixels.to_vec(), labels.to_vec());
        Dataset::in_memory("own", shape, names, train, (vec![test; 4], vec![0])).unwrap().0.fingerprint()
    };
    let pixels: Vec<u8> = (0..4_000u32).map(|i| (i * i % 251) as u8).collect();
    let labels: Vec<u32> = (0..1_000).map(|i| i % 2).collect();
    let first = print(&pixels, &labels, 0);
    assert_eq!(first, print(&pixels, &labels, 1));
    let mut other = pixels.clone();
    other[3_999] ^= 1;
    assert_ne!(first, print(&other, &labels, 0));
    let mut swapped = labels.clone();
    swapped.swap(998, 999);
    assert_ne!(first, print(&pixels, &swapped, 0));
    assert_ne!(first, print(&pixels[..3_996], &labels[..999], 0));
}
