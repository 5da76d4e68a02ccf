.PHONY: help train test faults fuzz sanitize deny lint docs bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

train: ## train the example across the adapters that are here
	scripts/setup train
	cargo run --release -- train --config examples/glyphs.toml

test: ## run every test, on two software adapters and any GPU
	scripts/setup test
	cargo nextest run --release --workspace --features faults
	cargo test --release --doc --workspace

faults: ## try every fault of tests/faults/rows.txt, a line for each
	scripts/setup test
	scripts/faults

fuzz: ## fuzz the readers of files, 2,500,000 runs each
	scripts/fuzz

sanitize: ## run the tests of devices and pipelines under AddressSanitizer
	scripts/sanitize

deny: ## check licences, sources and advisories of the dependencies
	command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
	cargo deny check licenses sources bans
	cargo deny --manifest-path fuzz/Cargo.toml --config deny.toml check licenses sources bans
	@# Last, as it alone needs the database of advisories.
	cargo deny check advisories

lint: ## check formatting, lints and documentation
	cargo fmt --all --check
	rustfmt --edition 2024 --check $$(git ls-files "crates/kernels/src/ops/*.rs")
	cargo clippy --release --workspace --all-targets -- -D warnings
	cargo clippy --release --workspace --all-targets --features faults -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --no-deps --workspace
	cargo run --release -- docs --check
	@# What users get has no fault points.
	! grep -aq BRIGADE_FAULT target/release/brigade

docs: ## regenerate the generated parts of docs/
	cargo run --release -- docs

bench: ## measure this machine's llvmpipe
	scripts/setup test
	cargo run --release -- bench kernels --devices llvmpipe
	cargo run --release -- bench step --devices llvmpipe --threads 1
	cargo run --release -- bench pipeline --devices llvmpipe

clean: ## delete what was built
	cargo clean
