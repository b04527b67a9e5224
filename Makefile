# The front door. `make` alone prints this help; every target does its own set-up first.
#
#   make demo         the whole road on a drawn sample: captions -> labels -> vocabulary -> pre-training -> one HTML page
#   make labels       captions -> label shards and vocabulary          CAPTIONS= OUT= MIN_COUNT= MASTER= LABEL_OPTIONS=
#                                                                      PRUNE_OPTIONS=
#   make pretrain     images + labels -> a pre-trained model           IMAGES= LABELS= VOCABULARY= RECIPE= GPUS= OUT=
#                                                                      PRETRAIN_OPTIONS=
#   make sample       draw the sample                                  OUT= SAMPLES= SEED=
#   make test         run the tests                                    TEST_WORKERS= (processes that share them, 2)
#   make test-quick   run all but the few that take over 10 s each     TEST_WORKERS=
#   make test-arithmetic   those that compare numbers of two computations, as on an older processor
#   make check        ruff, mypy, import contracts
#   make report       a label directory -> one HTML page               LABELS= CAPTIONS= CLASSES= OUT=
#   make dist         dist/rooms.zip, what Spark's executors need beside numpy and pyarrow; takes Python alone
#   make bench        the benchmarks that need nothing but this checkout
#   make setup        the virtual environment of `make demo` in .venv  PYTHON= TORCH= TORCH_INDEX=
#   make clean        remove what the targets above wrote, but not .venv
#
# `make labels` and `make pretrain` without variables work on the sample. Everything is written below out/.
#
# A target installs in .venv only what it needs: Spark for labels, torch for pretrain with IMAGES=, both for the demo; the
# tools of development come with test, check and bench. TORCH=cpu takes torch and torchvision without CUDA from PyTorch's
# own index, or from the one that TORCH_INDEX= names: .venv of the demo is then of 1.9 GB, not 6.3.

# Threads that wait by spinning take the cores from the loader's processes where there are few of them.
export OMP_WAIT_POLICY ?= PASSIVE

PYTHON ?= python3
TORCH ?=
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
RUN := .venv/bin/python
TORCHRUN := .venv/bin/torchrun

SAMPLES ?= 12000
SEED ?= 0
MIN_COUNT ?= 20
PRUNE_OPTIONS ?=
RECIPE ?= sample
GPUS ?= 0
TEST_WORKERS ?= 2
MASTER ?=
CAPTIONS ?=
IMAGES ?=
LABELS ?=
VOCABULARY ?=
CLASSES ?=
LABEL_OPTIONS ?=
PRETRAIN_OPTIONS ?=

SAMPLE_DIR := out/sample
SAMPLE_LABELS := out/labels
SAMPLE_VOCABULARY := out/vocabulary.parquet

.PHONY: help setup sample labels pretrain demo report dist test test-quick test-arithmetic check bench clean
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# One pip at a time.
.NOTPARALLEL:

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' $(firstword $(MAKEFILE_LIST))

# One environment, and in it a stamp for each set of extras. README.md says what a cluster or a training node installs.
setup: .venv/pipeline .venv/trainer

# Python would be there before pip is: a set-up that was killed between them must begin anew.
.venv/bin/pip:
	@sh requirements.sh $(PYTHON)
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet --upgrade pip

EXTRAS = $(@F)
.venv/all: EXTRAS = pipeline,trainer,remote,wandb,onnx,dense,fit,spacy,nltk,peers,dev
.venv/pipeline .venv/trainer .venv/all: setup.cfg pyproject.toml | .venv/bin/pip
	@$(if $(findstring pipeline,$(EXTRAS)),sh requirements.sh $(PYTHON) java)
	@echo "Installing [$(EXTRAS)] in .venv, which may take some minutes."
	$(RUN) -m pip install --quiet --editable '.[$(EXTRAS)]'
	@touch $@

ifeq ($(TORCH),cpu)
.venv/trainer .venv/all: | .venv/torch-cpu
endif
# Installed first, so that pip does not take PyPI's builds, which bring CUDA; torchvision's does not load beside a torch
# without it.
.venv/torch-cpu: setup.cfg | .venv/bin/pip
	@echo "Installing torch and torchvision without CUDA from $(TORCH_INDEX)"
	@$(RUN) -m pip install -qq --retries 1 --upgrade --index-url $(TORCH_INDEX) torch torchvision && \
		$(RUN) -c 'import sys, torch, torchvision; sys.exit(torch.version.cuda is not None)' 2>&- || { \
		echo "error: TORCH=cpu: pip brought no torch and torchvision without CUDA from $(TORCH_INDEX). Name another index" \
			"with TORCH_INDEX=, or leave TORCH=cpu out; if .venv has a torch with CUDA, remove .venv first." >&2; exit 1; }
	@touch $@

sample: .venv/pipeline
	$(RUN) -m pipeline sample --out $(or $(OUT),$(SAMPLE_DIR)) --samples $(SAMPLES) --seed $(SEED)

ifeq ($(CAPTIONS),)
labels: $(SAMPLE_VOCABULARY)
else
labels: .venv/pipeline
	@if [ -f $(or $(OUT),out/labels)/manifest.json ] && [ -z "$(findstring --extend,$(LABEL_OPTIONS))" ]; then \
		echo "$(or $(OUT),out/labels) is labelled already; going on with its vocabulary"; \
	else \
		set -x; $(RUN) -m pipeline label --captions $(CAPTIONS) --out $(or $(OUT),out/labels) \
			$(if $(MASTER),--master $(MASTER)) $(LABEL_OPTIONS); \
	fi
	$(RUN) -m pipeline prune --labels $(or $(OUT),out/labels) --min-count $(MIN_COUNT) $(PRUNE_OPTIONS) \
		--out $(patsubst %/,%,$(or $(OUT),out/labels)).vocabulary.parquet
endif

pretrain: $(if $(IMAGES),.venv/trainer,setup $(SAMPLE_VOCABULARY))
	$(if $(filter-out 0 1,$(GPUS)),$(TORCHRUN) --standalone --nproc-per-node $(GPUS) -m,$(RUN) -m) trainer pretrain \
		$(RECIPE) --images $(or $(IMAGES),$(SAMPLE_DIR)) --labels $(or $(LABELS),$(SAMPLE_LABELS)) \
		--vocabulary $(or $(VOCABULARY),$(SAMPLE_VOCABULARY)) --out $(or $(OUT),out/runs/$(RECIPE)) $(PRETRAIN_OPTIONS)

demo: pretrain
	@echo
	@$(RUN) -m trainer.records.demo $(or $(OUT),out/runs/$(RECIPE))
	@echo "Done. Open $(abspath $(or $(OUT),out/runs/$(RECIPE)))/page.html"

# The sample's own chain. A finished step is not done again, one that was interrupted is; `make clean` begins anew.
$(SAMPLE_DIR)/config.json: | .venv/pipeline
	rm -rf $(SAMPLE_DIR)
	$(RUN) -m pipeline sample --out $(SAMPLE_DIR) --samples $(SAMPLES) --seed $(SEED)

$(SAMPLE_LABELS)/manifest.json: | $(SAMPLE_DIR)/config.json
	rm -rf $(SAMPLE_LABELS)
	$(RUN) -m pipeline label --captions $(SAMPLE_DIR) --out $(SAMPLE_LABELS) $(if $(MASTER),--master $(MASTER))

$(SAMPLE_VOCABULARY): | $(SAMPLE_LABELS)/manifest.json
	$(RUN) -m pipeline prune --labels $(SAMPLE_LABELS) --min-count $(MIN_COUNT) --depictable --out $@

report: .venv/pipeline
	@$(if $(OUT),,rm -f out/report.html)
	$(RUN) -m pipeline report --labels $(or $(LABELS),$(SAMPLE_LABELS)) --out $(or $(OUT),out/report.html) \
		$(if $(CAPTIONS),--captions $(CAPTIONS)) $(if $(CLASSES),--classes $(CLASSES))

dist:
	$(PYTHON) -m pipeline.rooms dist/rooms.zip

# Two workers, however many cores: tests of four ranks and of Spark need some of their own, and each worker its GBs. They
# take whole files, whose tests share fixtures, and in their order, in which the last ones are short. Modules are kept
# compiled: the processes that tests start would compile them again.
PYTEST = PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(RUN) -m pytest \
		$(if $(filter-out 0 1,$(TEST_WORKERS)),--numprocesses $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder)

test: .venv/all
	$(PYTEST)

test-quick: .venv/all
	$(PYTEST) -m 'not slow'

# Another order of additions than on this processor: torch without vector instructions, oneDNN with those of 2013.
test-arithmetic: .venv/all
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=AVX2 $(PYTEST) -m arithmetic

check: .venv/all
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	.venv/bin/lint-imports

bench: .venv/all
	$(RUN) -m benchmarks.sample_labels
	@echo "Those that need real data: benchmarks/real_captions.py, spark_labels.py, real_images.py, feed.py and"
	@echo "feed_accuracy.py, clip.py, transfer.py; see BENCHMARKS.md"

clean:
	rm -rf out build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache spark-warehouse
