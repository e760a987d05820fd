//! Small data through the whole training, and the model that ships against the sales it never saw.

use super::*;

/// Reads the sales that come with the crate.
fn shipped_sales() -> Vec<Sale> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/king_county_houses.csv.gz");
    sales::read_file(&path).expect("the sales come with the crate")
}

#[test]
fn the_shipped_model_covers_nine_sales_in_ten_that_it_never_saw() {
    let (model, sales) = (Model::embedded().expect("the embedded model is sound"), shipped_sales());
    let measured = evaluate(&model, &Parts::of(&sales).test);
    let reported = model.report();
    assert_eq!((reported.sales, reported.tested), (21_596, 4_319));
    for (name, measured, reported) in [
        ("by zip code", measured.coverage_zip_code, reported.coverage_zip_code),
        ("by area", measured.coverage_area, reported.coverage_area),
    ] {
        // three standard errors of 4,319 draws are 0.014
        assert!((measured - COVERAGE).abs() < 0.02, "{name}: {measured}");
        assert!((measured - reported).abs() < 0.001, "{name}: {measured}, the file says {reported}");
    }
    assert!(measured.r2 > 0.75, "{}", measured.r2);
    assert!(measured.coverage_ten_percent < 0.5, "a fixed ten percent covers too much");
    for sale in sales.iter().step_by(1000) {
        let house = sale.house(model.location(&sale.zip_code).expect("every zip code is encoded"));
        let explained = model.base() + model.contributions(&house).iter().sum::<f64>();
        assert!((explained - model.predict(&house).price.ln()).abs() < 1e-4, "{house:?}");
    }
}

/// Other machines may round a logarithm differently, so predictions are compared, not bytes.
#[test]
fn the_shipped_model_is_what_training_makes_of_the_shipped_sales() {
    let (shipped, sales) = (Model::embedded().expect("the embedded model is sound"), shipped_sales());
    let trained = train(&sales, Settings::default()).expect("sound sales");
    let price = |model: &Model, sale: &Sale| {
        model.predict(&sale.house(model.location(&sale.zip_code).expect("every zip code is encoded"))).price
    };
    let sample: Vec<&Sale> = sales.iter().step_by(50).collect();
    let differences = sample.iter().map(|sale| (price(&trained, sale) / price(&shipped, sale)).ln().abs());
    let mean = differences.sum::<f64>() / sample.len() as f64;
    assert!(mean < 0.01, "prices differ by {mean}: train again, see data/README.md");
}

#[test]
fn training_is_repeatable_and_survives_the_file() {
    let sales = shipped_sales();
    let few: Vec<Sale> = sales.into_iter().step_by(20).collect();
    let train_few = || train(&few, Settings { trees: 10 }).expect("sound sales");
    let model = train_few();
    assert_eq!(model.tree_count(), 10);
    assert_eq!(model.encode(), train_few().encode(), "the same sales make the same bytes");
    assert_eq!(Model::decode(&model.encode()).expect("own bytes"), model);
    assert!(model.report().coverage_zip_code > 0.8, "{:?}", model.report());
}

#[test]
fn parts_are_disjoint_complete_and_shuffled() {
    let sales: Vec<Sale> = (0..1003).map(|i| Sale { price: f64::from(i), ..sale() }).collect();
    let parts = Parts::of(&sales);
    assert_eq!((parts.fit.len(), parts.calibrate.len(), parts.test.len()), (603, 200, 200));
    let mut prices: Vec<f64> =
        [&parts.fit, &parts.calibrate, &parts.test].into_iter().flatten().map(|sale| sale.price).collect();
    let as_used = prices.clone();
    prices.sort_by(f64::total_cmp);
    assert_eq!(prices, (0..1003).map(f64::from).collect::<Vec<_>>());
    assert_ne!(as_used, prices);
}

fn sale() -> Sale {
    Sale {
        price: 300_000.0,
        sqft: 1500.0,
        bedrooms: 3,
        bathrooms: 2.0,
        year_built: 1980,
        condition: 3,
        zip_code: "98001".into(),
        area: "suburban".into(),
    }
}

#[test]
fn too_few_sales_are_refused() {
    let error = train(&vec![sale(); 99], Settings::default()).expect_err("99 are too few");
    assert_eq!(error.to_string(), "99 sales are too few: at least 100 are needed");
}

#[test]
fn every_invalid_row_is_named() {
    const HEADER: &str = "location,zipcode,price,sqft,bedrooms,bathrooms,year_built,condition,extra\n";
    for (rows, expected) in [
        ("urban,98103,500000,1800,3,2.25,1990,4,x\n", Ok(1)),
        ("", Ok(0)),
        (
            "urban,98103,0,1800,0,2,1700,9,\n",
            Err(
                "  line 2: price must be above 0; bedrooms must be at least 1; year_built must be 1800 to 2030; condition must be 1 to 5",
            ),
        ),
        (
            "urban,98103,500000,1800,3,2,1990,4,\nurban,98103,500000\n",
            Err("  line 3: 3 fields, but the header has 9"),
        ),
        ("urban,98103,500000,big,3,2,1990,4,\n", Err("  line 2: field 3: invalid float literal")),
        ("urban,,500000,NaN,3,2,1990,4,\n", Err("  line 2: sqft must be above 0; zipcode must not be empty")),
    ] {
        match (read_sales(format!("{HEADER}{rows}").as_bytes()), expected) {
            (Ok(sales), Ok(count)) => assert_eq!(sales.len(), count, "{rows}"),
            (Err(SalesError::Rows { listed, .. }), Err(expected)) => assert_eq!(listed, [expected], "{rows}"),
            (result, expected) => panic!("{rows}: {result:?} where {expected:?}"),
        }
    }
    let bad = "urban,98103,0,1,1,1,1990,4,\n".repeat(1000);
    match read_sales(format!("{HEADER}{bad}").as_bytes()) {
        Err(SalesError::Rows { count, listed }) => assert_eq!((count, listed.len()), (1000, 20)),
        other => panic!("{other:?}"),
    }
    let error =
        read_sales("price,sqft,bedrooms,bathrooms,a\n1,2,3,4,5\n".as_bytes()).expect_err("no columns");
    let expected = "columns are missing: year_built, condition, zipcode, location; the header has: price, sqft, bedrooms, bathrooms, a";
    assert_eq!(error.to_string(), expected);
}
