"""The same work as `peers.rs`, done by PyTorch on the CPU.

Reads one command a line from standard input and answers with one line of JSON:

    hello                              version and instruction set
    threads N
    train HIDDEN LAYERS BATCH STEPS    sets up nn.LSTM(8, HIDDEN, LAYERS) -> Linear(HIDDEN, 24) on the last step, MSE, Adam
    score ROWS                         sets up nn.LSTM(8, 32), one step with kept state
    dense ROWS                         sets up the autoencoder 64-32-8-32-64 and its mean square error a row
    run REPEATS                        times what was set up: CPU and wall seconds of all repeats, and the answer

Weights and data come from one integer hash on both sides, so the answers can be compared.
"""

import json
import sys
import time

import numpy as np
import torch

GATES = 4
INPUTS = 8
OUTPUTS = 24


def numbers(seed, count, scale):
    """`count` numbers in ±scale, the same as in Rust."""
    i = np.arange(count, dtype=np.uint64) + np.uint64(seed << 32)
    i = (i * np.uint64(0x9E3779B97F4A7C15)) & np.uint64(0xFFFFFFFFFFFFFFFF)
    i ^= i >> np.uint64(29)
    i = (i * np.uint64(0xBF58476D1CE4E5B9)) & np.uint64(0xFFFFFFFFFFFFFFFF)
    i >>= np.uint64(40)
    return torch.from_numpy(((i.astype(np.float64) / 2.0**23 - 1.0) * scale).astype(np.float32))


def fill_lstm(lstm, hidden, layers):
    """Rust's flat order: for each layer inputs (in, 4H), recurrent (H, 4H), bias (4H). The second bias stays zero."""
    count = sum(((INPUTS if l == 0 else hidden) + hidden + 1) * GATES * hidden for l in range(layers))
    flat = numbers(1, count, 1.0 / hidden**0.5)
    at = 0
    with torch.no_grad():
        for l in range(layers):
            for name, rows in (("weight_ih", INPUTS if l == 0 else hidden), ("weight_hh", hidden), ("bias_ih", 1)):
                size = rows * GATES * hidden
                part = flat[at : at + size].reshape(rows, GATES * hidden)
                at += size
                parameter = getattr(lstm, f"{name}_l{l}")
                parameter.copy_(part[0] if name == "bias_ih" else part.t())
            second = getattr(lstm, f"bias_hh_l{l}")
            second.zero_()
            second.requires_grad_(False)


class Train:
    def __init__(self, hidden, layers, batch, steps):
        self.lstm = torch.nn.LSTM(INPUTS, hidden, layers)
        self.head = torch.nn.Linear(hidden, OUTPUTS)
        fill_lstm(self.lstm, hidden, layers)
        with torch.no_grad():
            self.head.weight.copy_(numbers(2, OUTPUTS * hidden, 1.0 / hidden**0.5).reshape(OUTPUTS, hidden))
            self.head.bias.zero_()
        x = numbers(3, batch * steps * INPUTS, 1.0).reshape(batch, steps, INPUTS)
        self.x = x.transpose(0, 1).contiguous()
        self.y = numbers(4, batch * OUTPUTS, 1.0).reshape(batch, OUTPUTS)
        trained = [p for m in (self.lstm, self.head) for p in m.parameters() if p.requires_grad]
        self.adam = torch.optim.Adam(trained, lr=1e-3, betas=(0.9, 0.99), eps=1e-8)

    def step(self):
        self.adam.zero_grad(set_to_none=True)
        out, _ = self.lstm(self.x)
        loss = torch.nn.functional.mse_loss(self.head(out[-1]), self.y)
        loss.backward()
        self.adam.step()
        return loss

    def answer(self, last):
        return [last.item()]


class Score:
    def __init__(self, rows):
        self.lstm = torch.nn.LSTM(INPUTS, 32)
        fill_lstm(self.lstm, 32, 1)
        self.x = numbers(3, rows * INPUTS, 1.0).reshape(1, rows, INPUTS)
        self.state = (torch.zeros(1, rows, 32), torch.zeros(1, rows, 32))

    @torch.inference_mode()
    def step(self):
        _, self.state = self.lstm(self.x, self.state)

    def answer(self, _):
        return self.state[0].flatten()[::97].tolist()


class Dense:
    SIZES = (64, 32, 8, 32, 64)

    def __init__(self, rows):
        flat, at = numbers(5, sum(i * o + o for i, o in zip(self.SIZES, self.SIZES[1:])), 0.3), 0
        parts = []
        for l, (i, o) in enumerate(zip(self.SIZES, self.SIZES[1:])):
            linear = torch.nn.Linear(i, o)
            with torch.no_grad():
                linear.weight.copy_(flat[at : at + i * o].reshape(i, o).t())
                linear.bias.copy_(flat[at + i * o : at + i * o + o])
            at += i * o + o
            parts.append(linear)
            if l in (0, 2):
                parts.append(torch.nn.Tanh())
        self.net = torch.nn.Sequential(*parts)
        self.x = numbers(6, rows * self.SIZES[0], 1.0).reshape(rows, self.SIZES[0])

    @torch.inference_mode()
    def step(self):
        return (self.net(self.x) - self.x).square().mean(1)

    def answer(self, last):
        return last[::7].tolist()


def main():
    work, last = None, None
    for line in sys.stdin:
        command, *rest = line.split()
        arguments = [int(a) for a in rest]
        if command == "hello":
            reply = {"version": torch.__version__, "capability": torch.backends.cpu.get_cpu_capability()}
        elif command == "threads":
            torch.set_num_threads(arguments[0])
            reply = {"threads": torch.get_num_threads()}
        elif command in ("train", "score", "dense"):
            work = {"train": Train, "score": Score, "dense": Dense}[command](*arguments)
            reply = {}
        elif command == "run":
            cpu, wall = time.process_time(), time.perf_counter()
            for _ in range(arguments[0]):
                last = work.step()
            reply = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall, "answer": work.answer(last)}
        else:
            reply = {"error": f"no such command: {command}"}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
