"""Settings: words of the command line, and files that hold settings."""

from corpus.case import Case, folder, nothing, put

TRAIN = "train fold=0"


def word(text, *said, ask=TRAIN):
    """A case of an override."""
    return Case(text, nothing, f"{ask} {text}", said, 2)


def policy(title, content, *said):
    """A case of an augmentation's file."""
    return Case(title, put("policy.yaml", content), f"{TRAIN} augment=searched augment.file=policy.yaml", said, 2)


CASES = [
    Case("no such command", nothing, "trian", ("no such command: 'trian'; did you mean 'train'?",), 2),
    Case("no such flag", nothing, "score sub.csv truth.csv --jason", ("--jason",), 2),
    Case("no argument", nothing, "score sub.csv", ("TRUTH.csv",), 2),
    Case("a file too many", nothing, "score sub.csv truth.csv sub.csv", ("sub.csv",), 2),
    word("=3", "'=3' is not an override"),
    word("loss=", "loss"),
    word("trainer.epoch=3", "did you mean 'trainer.epochs'?"),
    word("trainer.epochs=many", "trainer.epochs='many': input should be a valid integer"),
    word("trainer.epochs=-1", "trainer.epochs=-1"),
    word("trainer.epochs=1.5", "trainer.epochs=1.5"),
    word("trainer.epochs=[1]", "trainer.epochs=[1]"),
    word("trainer.batch_size=1e30", "trainer.batch_size"),
    word("trainer.workers=-1", "trainer.workers=-1"),
    word("trainer.clip=nan", "trainer.clip=nan"),
    word("trainer.clip=-1", "trainer.clip=-1"),
    word("trainer.train_batches=0", "trainer.train_batches=0"),
    word("trainer.val_batches=0", "trainer.val_batches=0"),
    word("trainer.patience=0", "trainer.patience=0"),
    word("trainer.precision=7", "trainer.precision"),
    word("optimizer.lr=inf", "optimizer.lr=inf"),
    word("optimizer.lr=1e300", "optimizer.lr=1e+300"),
    word("optimizer.lr=0", "optimizer.lr=0"),
    word("seed=-1", "seed=-1: from 0 to"),
    word("seed=x", "seed='x': expected a value of type int"),
    word("device=tpu", "device='tpu': expected one of auto, cpu, cuda, mps"),
    word("device=gpu", "did you mean 'cuda'"),
    word("name=", "name"),
    word("name=.", "name='.': one folder below runs"),
    word("name=../../x", "name='../../x': one folder below runs"),
    word("name=/tmp/x", "name='/tmp/x': one folder below runs"),
    word("name=" + "x" * 300, "name='xxx", "at most 200 bytes"),
    word("runs=", "runs"),
    word("fold=9", "fold=9: there are folds 0 to 4"),
    word("fold=-1", "fold=-1: there are folds 0 to 4"),
    word("folds.count=1", "folds.count=1: at least 2", ask="split"),
    word("data.size=0", "data.size=0"),
    word("data.size=1000000", "data.size=1000000"),
    word("data.size=[64]", "data.size=[64]"),
    word("data.std=nan", "data.std=nan"),
    word("data.std=0", "data.std=0"),
    word("data.patient='('", "data.patient"),
    word("data.patient=x", "data.patient='x': the pattern needs a group"),
    word("data.classes=[a,a]", "data.classes must be a list of different names"),
    word("data.images=[png]", "data.images: 'png': suffixes in small letters"),
    word("data.supersample=9", "data.supersample=9: from 1 to 4"),
    word("data.limits.pixels=0", "data.limits.pixels=0"),
    word("data.limits.pixel=5", "data.limits"),
    word("data.external=[{roots:x}]", "data.external"),
    word("loss=nope", "loss has no option 'nope'"),
    word("loss=dice_topk loss.k=0", "loss.k=0: input should be greater than 0"),
    word("loss.boundary={sigmaa:5}", "loss.boundary", "unexpected keyword argument"),
    word("loss._target_=bonepipe.cli.main", "loss: _target_ 'bonepipe.cli.main' is not what an option"),
    word("loss._target_=bonepipe.files.os", "loss: _target_ 'bonepipe.files.os' is not what an option"),
    word("mixing=cutmix mixing.p=2", "mixing.p=2: input should be less than or equal to 1"),
    word("runs=${oc.env:HOME}", "only keys can be referred to"),
    word("model=resnet", "model has no option 'resnet'"),
    word("model.encoder_weights=moon", "model"),
    word("executor.parallel=0", "executor.parallel=0"),
    word("thresholds.margin=-1", "thresholds.margin=-1: input should be greater than or equal to 0", ask="train-all"),
    word("tta.transforms=[{name:Nope}]", "tta", "Nope"),
    word("augment=light augment.transforms=[{name:Nope}]", "augment", "Nope"),
    word("augment=light augment.transforms=[{name:RandomCrop,height:9,width:9}]", "augment"),
    word("sampler=weighted sampler.cap=0", "sampler.cap=0"),
    policy("no policy", "", "policy.yaml: holds no list"),
    policy("a policy that is a list", "[1]", "policy.yaml: holds no list"),
    policy("a policy with a tag", "transforms: !!python/object/apply:os.system [ls]", "policy.yaml: cannot be read"),
    policy("a policy that refers to itself", "a: &a [1]\ntransforms: *a", "policy.yaml", "refers to itself by *a"),
    policy("a deep policy", "transforms: " + "[" * 5000, "policy.yaml", "nested more than 50 levels"),
    policy("a policy of bytes", b"\xff\xfe\0", "policy.yaml: cannot be read"),
    policy("a policy too large", "#" + "x" * (5 << 20), "policy.yaml", "has more than 4 MiB"),
    Case("a file for the folder of results", put("file"), f"{TRAIN} runs=file", ("file",)),
    Case("a folder for a list", folder("list.csv"), f"{TRAIN} data.masks=list.csv", ("data.masks=list.csv",)),
    Case("no such study", nothing, "ablation nope.yaml", ("nope.yaml: no such file",), 2),
    Case("a study of nothing", put("a.yaml", "{}"), "ablation a.yaml", ("a.yaml: base: Field required",), 2),
    Case("a phantom of nobody", nothing, "phantom out --patients 0 --test-patients 1", ("--patients",)),
    Case("a phantom of no size", nothing, "phantom out --patients 1 --test-patients 1 --size 3", ("--size",)),
    Case("no such shell", nothing, "completion csh", ("csh",), 2),
]  # fmt: skip
