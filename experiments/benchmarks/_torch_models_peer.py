"""The networks of the models benchmark in PyTorch, for an interpreter that has it.

Run by :mod:`experiments.benchmarks.models` under ``--peer``; imports nothing of this
repository. Requests come as JSON, one a line, on the standard input, answers likewise
on the standard output. Networks are functions of a dict of parameters, which are kept
in PyTorch's layouts.
"""

import json
import math
import os
import sys
import time

import numpy as np
import torch  # pyright: ignore[reportMissingImports]: not of this environment
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]


class Network:
    """Parameters under our paths, and layers that look theirs up."""

    def __init__(self, arrays, options, layout):
        self.options, self.layout, self.params = options, layout, {}
        self._stats = {}
        for path, array in arrays.items():
            self.params[path] = self._leaf(path, torch.from_numpy(array.copy()))

    def _leaf(self, path, leaf):
        if leaf.ndim == 4:
            leaf = leaf.permute(3, 2, 0, 1).contiguous(memory_format=self.layout)
        elif path.endswith("attention/out/kernel"):
            leaf = leaf.flatten(0, 1).T.contiguous()
        elif path.endswith("kernel"):
            leaf = leaf.flatten(1).T.contiguous()
        elif "/attention/" in path:
            leaf = leaf.flatten()
        return leaf.requires_grad_()

    def dense(self, name, x):
        return F.linear(x, self.params[f"{name}/kernel"], self.params[f"{name}/bias"])

    def conv(self, name, x, stride=1):
        kernel = self.params[f"{name}/kernel"]
        return F.conv2d(x, kernel, None, stride, kernel.shape[-1] // 2)

    def batch_norm(self, name, x):
        if name not in self._stats:
            width = x.shape[1]
            self._stats[name] = torch.zeros(width), torch.ones(width)
        scale, bias = self.params[f"{name}/scale"], self.params[f"{name}/bias"]
        return F.batch_norm(x, *self._stats[name], scale, bias, True, 0.1, 1e-5)

    def layer_norm(self, name, x):
        scale, bias = self.params[f"{name}/scale"], self.params[f"{name}/bias"]
        return F.layer_norm(x, scale.shape, scale, bias, self.options["epsilon"])

    def drop(self, rate, x, train, shape=None):
        """Dropout, with one mask of a shape for all that it is broadcast to."""
        rate = self.options[rate]
        if shape is None:
            return F.dropout(x, rate, train)
        if not train or not rate:
            return x
        return x * x.new_empty(shape).bernoulli_(1 - rate).div_(1 - rate)


class ResNet(Network):
    """Basic blocks, shortcuts padded with zeros."""

    def __call__(self, x, train):
        del train
        x = F.relu(self.batch_norm("stem/norm", self.conv("stem/conv", x)))
        paths = [path.split("/")[0] for path in self.params if "_block" in path]
        for block in sorted(set(paths)):
            stride = 2 if block.endswith("_block1") and block[5] != "1" else 1
            y = self.conv(f"{block}/conv1", x, stride)
            y = F.relu(self.batch_norm(f"{block}/norm1", y))
            y = self.batch_norm(f"{block}/norm2", self.conv(f"{block}/conv2", y))
            if stride == 2:
                missing = y.shape[1] - x.shape[1]
                x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, missing))
            x = F.relu(x + y)
        return self.dense("head", x.mean((2, 3)))


class Vgg(Network):
    """Pairs of convolution blocks (or single ones), then pooling; one dense layer."""

    def _leaf(self, path, leaf):
        if path == "Dense_0/kernel":  # from our order of a flattened image to theirs
            channels = self.params[self._block_paths()[-1]].shape[0]
            side = math.isqrt(leaf.shape[0] // channels)
            leaf = leaf.view(side, side, channels, -1).permute(2, 0, 1, 3).flatten(0, 2)
        return super()._leaf(path, leaf)

    def _block_paths(self):
        return sorted(path for path in self.params if path.endswith("Conv_0/kernel"))

    def __call__(self, x, train):
        del train
        paths = self._block_paths()
        widths = [self.params[path].shape[0] for path in paths]
        for index, (path, width) in enumerate(zip(paths, widths)):  # noqa: B905
            block = path.split("/")[0]
            x = self.conv(f"{block}/Conv_0", x)
            x = F.relu(self.batch_norm(f"{block}/BatchNorm_0", x))
            if [*widths, 0][index + 1] != width:
                x = F.max_pool2d(x, 2)
        return self.dense("Dense_0", x.flatten(1))


class Awd(Network):
    """AWD-LSTM: PyTorch's own LSTM, its recurrent matrix dropped before."""

    def __call__(self, tokens, train):
        tokens, table = tokens.T, self.params["embedding/embedding"]
        batch, layers = tokens.shape[1], self.options["num_layers"]
        x = F.embedding(tokens, table)
        ones = torch.ones(len(table))
        words = self.drop("embedding_dropout", ones, train, ones.shape)
        x = x * words[tokens][..., None]
        x = self.drop("input_dropout", x, train, (1, batch, x.shape[-1]))
        for index in range(layers):
            get = {
                name: self.params[f"layer_{index}/{name}"]
                for name in (
                    *("input/kernel", "recurrent_kernel"),
                    *("input/bias", "recurrent_bias"),
                )
            }
            dropped = self.drop("weight_dropout", get["recurrent_kernel"], train)
            weights = list((get | {"recurrent_kernel": dropped}).values())
            zeros = torch.zeros(1, batch, dropped.shape[1])
            x, _, _ = torch._VF.lstm(
                x, (zeros, zeros), weights, True, 1, 0.0, train, False, False
            )
            rate = "output_dropout" if index == layers - 1 else "hidden_dropout"
            x = self.drop(rate, x, train, (1, batch, x.shape[-1]))
        return F.linear(x.transpose(0, 1), table, self.params["decoder_bias"])


class Roberta(Network):
    """RoBERTa with its masked language modelling head."""

    def _attention(self, name, x, mask, train):
        batch, length, width = x.shape
        heads = self.options["num_heads"]
        query, key, value = (
            self.dense(f"{name}/{part}", x)
            .view(batch, length, heads, -1)
            .transpose(1, 2)
            for part in ("query", "key", "value")
        )
        rate = self.options["attention_dropout"] if train else 0.0
        x = F.scaled_dot_product_attention(query, key, value, mask, rate)
        return self.dense(
            f"{name}/out", x.transpose(1, 2).reshape(batch, length, width)
        )

    def __call__(self, tokens, train):
        pad = self.options["pad_token"]
        counted = (tokens != pad).long()
        positions = counted.cumsum(1) * counted + pad
        table = self.params["embeddings/word/embedding"]
        x = F.embedding(tokens, table)
        x = x + self.params["embeddings/token_type/embedding"][0]
        x = x + F.embedding(positions, self.params["embeddings/position/embedding"])
        x = self.drop("dropout", self.layer_norm("embeddings/layer_norm", x), train)
        mask = (tokens != pad)[:, None, None, :]
        for index in range(self.options["num_layers"]):
            layer = f"layer_{index}"
            y = self._attention(f"{layer}/attention", x, mask, train)
            x = x + self.drop("dropout", y, train)
            x = self.layer_norm(f"{layer}/attention_norm", x)
            y = F.gelu(self.dense(f"{layer}/intermediate", x))
            y = self.drop("dropout", self.dense(f"{layer}/output", y), train)
            x = self.layer_norm(f"{layer}/output_norm", x + y)
        x = self.layer_norm("head_norm", F.gelu(self.dense("head_dense", x)))
        return F.linear(x, table, self.params["decoder_bias"])


KINDS = {"resnet": ResNet, "vgg": Vgg, "awd": Awd, "roberta": Roberta}

LAYOUTS = {
    "contiguous": torch.contiguous_format,
    "channels_last": torch.channels_last,
}


class Session:
    """What the requests act on; ``load`` comes before all others."""

    def __init__(self):
        self._tasks = {}

    def load(self, path, kind, options, layouts, sgd, threads):
        """Reads parameters and a batch; makes the network in each of the layouts."""
        torch.manual_seed(0)
        torch.set_num_threads(threads)
        arrays = np.load(path)
        params = {
            name.removeprefix("params/"): arrays[name]
            for name in sorted(arrays.files)
            if name.startswith("params/")
        }
        labels = torch.from_numpy(arrays["labels"]).long().flatten()
        self._tasks = {}
        for layout in layouts:
            inputs = torch.from_numpy(arrays["inputs"])
            if inputs.ndim == 4:
                inputs = inputs.permute(0, 3, 1, 2)
                inputs = inputs.contiguous(memory_format=LAYOUTS[layout])
            else:
                inputs = inputs.long()
            network = KINDS[kind](params, options, LAYOUTS[layout])
            optimizer = torch.optim.SGD(network.params.values(), **sgd)
            self._tasks[layout] = network, inputs, labels, optimizer
        return {"torch": torch.__version__, "threads": torch.get_num_threads()}

    def loss(self, layout):
        """The loss of the parameters as they are, nothing dropped."""
        network, inputs, labels, _ = self._tasks[layout]
        with torch.no_grad():
            outputs = network(inputs, False)
            return {"loss": F.cross_entropy(outputs.flatten(0, -2), labels).item()}

    def block(self, layout, steps):
        """Seconds per step over some steps, by the clock and of all processors."""
        network, inputs, labels, optimizer = self._tasks[layout]
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            outputs = network(inputs, True)
            F.cross_entropy(outputs.flatten(0, -2), labels).backward()
            optimizer.step()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        return {"wall": wall / steps, "cpu": cpu / steps}


def main():
    """Answers requests until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the libraries print is no answer
    session = Session()
    for line in sys.stdin:
        request = json.loads(line)
        answer = getattr(session, request.pop("do"))(**request)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
