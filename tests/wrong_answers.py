"""Answers to the exercises with small functions, as readers write them: a right one, and what in it is replaced to make
it wrong -> words of the hint. They are written in another way than the functions in the tables of mistakes."""

SOURCES: dict[str, tuple[str, dict[tuple[str, str], str]]] = {
    "to_model": (
        """
def answer(x):
    return (x.to(torch.float32) / 255 * 2 - 1).movedim(-1, -3)
""",
        {
            (" * 2 - 1", ""): "0 to 1",
            (" * 2 - 1", " - 0.5"): "half",
            (" * 2", ""): "-1 to 0",
            ("255 * 2", "128"): "128",
            (".movedim(-1, -3)", ""): "another order",
            (".movedim(-1, -3)", ".reshape(*x.shape[:-3], 3, *x.shape[-3:-1])"): "reshape",
            ("torch.float32", "torch.float64"): "float64",
        },
    ),
    "majority_accuracy": (
        """
def answer(y):
    counts = torch.unique(y, return_counts=True)[1]
    return counts.max().item() / y.numel()
""",
        {
            (" / y.numel()", ""): "how often",
            ("counts.max()", "counts.min()"): "rarest",
            ("/ y.numel()", "/ len(counts)"): "number of classes",
            ("counts.max().item() / y.numel()", "y.mode()[0].item()"): "number of the most",
            ("counts.max().item() / y.numel()", "1 / len(counts)"): "guessing",
            ("counts.max().item() / y.numel()", "100 * counts.max().item() / y.numel()"): "per cent",
            ("counts.max().item() / y.numel()", "(y == 0).float().mean().item()"): "class 0",
        },
    ),
    "shapes": (
        """
def answer(b, i, p, c, d, m, h, k):
    n = (i // p) ** 2
    t = n + 1
    return [(b, n, c * p ** 2), (b, t, d), (b, t, 3 * d), (b, h, t, t), (b, t, m), (b, k)]
""",
        {
            ("t = n + 1", "t = n"): "class token",
            ("c * p ** 2", "p ** 2"): "all channels",
            ("c * p ** 2", "d"): "embedding",
            ("(b, t, 3 * d)", "(b, t, d)"): "three times",
            ("(b, h, t, t)", "(b, t, t)"): "own",
            ("(b, t, m)", "(b, t, 4 * d)"): "4 D",
            ("(b, k)", "(b, t, k)"): "one row",
        },
    ),
    "linear_weight": (
        """
def answer(w):
    return torch.einsum('pqcd->dcpq', w).reshape(w.shape[3], -1)
""",
        {
            ("dcpq", "dcqp"): "mirrored",
            ("dcpq", "dpqc"): "channels come last",
            ("torch.einsum('pqcd->dcpq', w)", "w"): "reshape",
            (", w)", ", w.flip(0, 1))"): "upside",
            (", w)", ", w.detach())"): "gradient",
            (".reshape(w.shape[3], -1)", ".reshape(w.shape[3], -1).T"): "another order",
            ("dcpq", "dpcq"): "between",
        },
    ),
    "is_order_blind": (
        """
def answer(layer, x):
    p = torch.randperm(x.shape[1])
    while (p == torch.arange(len(p))).all(): p = torch.randperm(x.shape[1])
    return bool(torch.allclose(layer(x[:, p]), layer(x)[:, p], atol=1e-5))
""",
        {
            ("layer(x)[:, p]", "layer(x)"): "not shuffled",
            ("return bool(", "return not bool("): "wrong way round",
            ("return bool(torch.allclose(layer(x[:, p]), layer(x)[:, p], atol=1e-5))", "return True"): "True of every",
            ("return bool", "layer.train()\n    return bool"): "mode",
            ("return bool(torch.allclose(layer(x[:, p]), layer(x)[:, p], atol=1e-5))", "return 'yes'"): "str",
            ("p = torch", "x *= 2; p = torch"): "in place",
            ("return bool", "layer.register_forward_hook(lambda *a: None)\n    return bool"): "hook",
        },
    ),
    "rows_and_columns": (
        """
def answer(r, c):
    R, K = r.shape[0], c.shape[0]
    out = torch.cat([r.unsqueeze(1).repeat(1, K, 1), c.unsqueeze(0).repeat(R, 1, 1)], -1)
    return out.reshape(1, R * K, -1)
""",
        {
            ("out.reshape", "out.transpose(0, 1).reshape"): "column by column",
            ("out.reshape(1, R * K, -1)", "out.reshape(R * K, -1)"): "first axis|size 1",
            ("out.reshape(1, R * K, -1)", "out[None]"): "grid|split",
            ("out.reshape", "out.data.reshape"): "gradient",
        },
    ),
    "chunked_attention": (
        """
def answer(q, k, v, chunk=4):
    m = torch.full(q.shape[:-1] + (1,), float("-inf"))
    l = torch.zeros_like(m)
    o = torch.zeros_like(q)
    for i in range(0, k.shape[-2], chunk):
        s = q @ k[..., i:i+chunk, :].mT / q.shape[-1] ** 0.5
        n = torch.max(m, s.max(-1, keepdim=True)[0])
        e, c = (s - n).exp(), (m - n).exp()
        l = l * c + e.sum(-1, keepdim=True)
        o = o * c + e @ v[..., i:i+chunk, :]
        m = n
    return o / l
""",
        {
            (" / q.shape[-1] ** 0.5", ""): "not scaled",
            ("** 0.5", ""): "D_h",
            ("l = l * c", "l = l"): "sum of the shares",
            ("o = o * c", "o = o"): "sum of the values",
            ("o / l", "o"): "division",
            ("range(0, k.shape[-2], chunk)", "range(0, k.shape[-2] - chunk + 1, chunk)"): "last chunk",
            ("n = torch.max(m, s.max(-1, keepdim=True)[0])", "n = torch.zeros_like(m)"): "finite|numbers|nan",
        },
    ),
    "gelu_derivative": (
        """
def answer(x):
    P = 0.5 * (1 + torch.erf(x / 2 ** 0.5))
    p = torch.exp(-0.5 * x * x) / (2 * math.pi) ** 0.5
    return P + x * p
""",
        {
            ("P + x * p", "P"): "second term",
            ("P + x * p", "x * p"): "first term",
            ("P + x * p", "P + p"): "multiplied by x",
            ("P + x * p", "P - x * p"): "wrong sign",
            (" / (2 * math.pi) ** 0.5", ""): "1 / sqrt\\(2 pi\\)",
            ("(2 * math.pi) ** 0.5", "(2 * math.pi)"): "divided by 2 pi",
            ("-0.5 * x * x", "-x * x"): "exp\\(-x\\^2\\)",
        },
    ),
    "conv_mlp": (
        """
def answer(z, hidden, out):
    y = F.conv1d(z.permute(0, 2, 1), hidden.weight.unsqueeze(-1), hidden.bias)
    y = F.gelu(y)
    y = F.conv1d(y, out.weight.unsqueeze(-1), out.bias)
    return y.permute(0, 2, 1)
""",
        {
            ("y = F.gelu(y)", "pass"): "no GELU",
            ("F.gelu(y)", "y.relu()"): "ReLU",
            (", hidden.bias", ", None"): "bias of `hidden`",
            (", out.bias", ", None"): "bias of `out`",
            ("y.permute(0, 2, 1)", "y"): "not transposed|another order",
            ("z.permute(0, 2, 1)", "z.reshape(len(z), z.shape[2], -1)"): "reshape",
            ("return y.permute(0, 2, 1)", "return y.permute(0, 2, 1).detach()"): "gradient",
        },
    ),
    "post_norm": (
        """
def answer(z, block):
    y = z + block.msa(z)
    y = block.norm1(y)
    x = y + block.mlp(y)
    return block.norm2(x)
""",
        {
            ("y = block.norm1(y)", "pass"): "first norm is missing",
            ("return block.norm2(x)", "return x"): "second norm",
            ("y = z + block.msa(z)", "y = block.msa(z)"): "around the MSA",
            ("x = y + block", "x = block"): "around the MLP",
            ("block.norm2(x)", "block.norm1(x)"): "norm1 is used twice",
            ("x = y + block", "x = z + block"): "block's input",
            ("return block.norm2(x)", "return block.norm2(x).detach()"): "gradient",
        },
    ),
    "expected_branches": (
        """
def answer(L, rate):
    return sum(2 * (1 - rate * l / (L - 1)) for l in range(L))
""",
        {
            ("2 * (1", "(1"): "two branches",
            ("l / (L - 1)", "1"): "last rate",
            ("l / (L - 1)", "l / L"): "last layer is not",
            ("l / (L - 1)", "(l + 1) / L"): "first layer is not 0",
            ("2 * (1 - rate * l / (L - 1))", "2 * rate * l / (L - 1)"): "left out",
            ("2 * (1 - rate * l / (L - 1))", "2"): "none is left out",
            ("sum(2", "round(2"): "Error",
        },
    ),
    "stack_parameters": (
        """
def answer(L, D, M):
    msa = 3 * (D * D + D) + D * D + D
    mlp = D * M + M + M * D + D
    return L * (msa + mlp + 2 * 2 * D)
""",
        {
            ("+ 2 * 2 * D", ""): "4 D",
            ("2 * 2 * D", "2 * D"): "two LayerNorms",
            ("+ M + M * D + D", "+ M * D"): "biases of the MLP",
            (" + M + M", " + M"): "bias of `hidden`",
            ("+ D * D + D\n", "\n"): "output projection",
            ("3 * (D * D + D)", "(D * D + D)"): "three times",
            ("L * ", ""): "one block",
        },
    ),
    "vit_parameters": (
        """
def answer(i, p, k, L, D, M):
    n = (i // p) ** 2
    total = (3 * p * p + 1) * D
    total += D
    total += (n + 1) * D
    total += L * (4 * D * D + 4 * D + 2 * D * M + M + D + 4 * D)
    total += 2 * D
    total += (D + 1) * k
    return total
""",
        {
            ("total += D\n", "pass\n"): "class token",
            ("total += 2 * D", "pass"): "LayerNorm",
            ("(3 * p * p + 1) * D", "3 * p * p * D"): "biases of the patch",
            ("total += (D + 1) * k", "pass"): "head is forgotten",
            ("total += L *", "total += "): "one block",
            ("M + D + 4 * D", "M + D"): "LayerNorms of the blocks",
            ("return total", "return total + 1"): "by 1",
        },
    ),
    "saved_macs": (
        """
def answer(T, D, M):
    q = D * D
    s = 2 * T * D
    o = D * D
    m = 2 * D * M
    return (T - 1) * (q + s + o + m)
""",
        {
            ("(T - 1)", "T"): "T - 1",
            ("q = D * D", "q = 3 * D * D"): "keys and values",
            ("+ m)", ")"): "MLP is saved",
            ("s = 2", "s = 1"): "weighted sums",
            ("+ o ", ""): "output projection",
            ("m = 2", "m = 1"): "two matrices",
            ("(q + s + o + m)", "2 * (q + s + o + m)"): "FLOPs",
        },
    ),
    "smallest_loss": (
        """
def answer(K):
    return -math.log(math.e / (math.e + K - 1))
""",
        {
            ("-math.log(math.e / (math.e + K - 1))", "math.log(K)"): "equally likely",
            ("-math.log", "math.log"): "sign",
            ("-math.log(math.e / (math.e + K - 1))", "0"): "perfect|0",
            ("K - 1", "K"): "K - 1",
            ("-math.log(math.e / (math.e + K - 1))", "math.e / (math.e + K - 1)"): "probability",
            ("math.log", "math.log10"): "base 10",
            ("math.log", "math.log2"): "base 2",
        },
    ),
    "f1_per_class": (
        """
def answer(m):
    tp = m.diag().float()
    fn = m.sum(1) - tp
    fp = m.sum(0) - tp
    d = 2 * tp + fn + fp
    return torch.where(d > 0, 2 * tp / d.clamp(min=1), torch.zeros_like(tp))
""",
        {
            ("d = 2 * tp + fn + fp", "d = 2 * (tp + fn)"): "recall",
            ("d = 2 * tp + fn + fp", "d = 2 * (tp + fp)"): "precision",
            ("2 * tp / d", "tp / d"): "2 before TP",
            ("torch.where(d > 0, 2 * tp / d.clamp(min=1), torch.zeros_like(tp))", "2 * tp / d"): "finite",
            ("torch.where(d > 0, 2 * tp / d.clamp(min=1), torch.zeros_like(tp))", "tp.sum() / m.sum()"): "accuracy",
        },
    ),
    "sine_cosine_2d": (
        """
def answer(R, K, D):
    a = sinusoidal_positions(R, D // 2)
    b = sinusoidal_positions(K, D // 2)
    return torch.cat([a[:, None].expand(R, K, D // 2), b[None].expand(R, K, D // 2)], -1).reshape(R * K, D)
""",
        {
            ("-1).reshape", "-1).transpose(0, 1).reshape"): "column by column",
            (".reshape(R * K, D)", ""): "split",
            ("b[None].expand(R, K, D // 2)]", "a[:, None].expand(R, K, D // 2)]"): "both halves",
        },
    ),
    "accumulated_gradient": (
        """
def answer(model, x, y, size):
    model.weight.grad = None
    for a, b in zip(x.split(size), y.split(size)):
        (F.cross_entropy(model(a), b, reduction='sum') / len(x)).backward()
    return model.weight.grad
""",
        {
            ("    model.weight.grad = None\n", ""): "old gradient",
            ("reduction='sum') / len(x)", "reduction='mean')"): "added up",
            ("reduction='sum') / len(x)", "reduction='mean') / math.ceil(len(x) / size)"): "number of parts",
            (" / len(x)", ""): "sum",
            ("/ len(x)", "/ size"): "part_size|added",
            ("    return model", "        break\n    return model"): "first part",
            ("model(a)", "model(a).softmax(-1)"): "softmax",
        },
    ),
    "warmup_linear": (
        """
def answer(s, w, t):
    if s < w:
        return (s + 1) / w
    return 1 - (s - w) / (t - w)
""",
        {
            ("s + 1", "s"): "starts at 0",
            ("(s + 1) / w", "(s + 1) / (w + 1)"): "warmup_steps \\+ 1",
            ("1 - (s - w) / (t - w)", "1.0"): "stays",
            ("1 - (s - w) / (t - w)", "1 - (s + 1 - w) / (t - w)"): "one step too fast",
            ("1 - (s - w) / (t - w)", "(t - s) / t"): "all steps",
            ("1 - (s - w) / (t - w)", "(s - w) / (t - w)"): "done",
            ("1 - (s - w) / (t - w)", "0.5 * (1 + math.cos(math.pi * (s - w) / (t - w)))"): "cosine",
        },
    ),
    "smoothing_floor": (
        """
def answer(K, e):
    p = [e / K] * K
    p[0] += 1 - e
    return sum(-q * math.log(q) for q in p)
""",
        {
            ("p[0] += 1 - e", "p[0] = 1 - e"): "1 - share \\+",
            ("sum(-q", "sum(q"): "sign",
            ("for q in p)", "for q in p[:1])"): "only the true",
            ("return sum(-q * math.log(q) for q in p)", "return -math.log(p[0])"): "-ln of the true",
            ("return sum(-q * math.log(q) for q in p)", "return 0.0"): "not smoothed",
            ("math.log", "math.log2"): "base 2",
            ("return sum(-q * math.log(q) for q in p)", "return math.log(K)"): "ln K",
        },
    ),
    "mix_labels": (
        """
def answer(y, s, K):
    a = torch.eye(K)[y]
    b = torch.cat([a[-1:], a[:-1]])
    return s * a + (1 - s) * b
""",
        {
            ("[a[-1:], a[:-1]]", "[a[1:], a[:1]]"): "one after",
            ("torch.cat([a[-1:], a[:-1]])", "a.roll(1, 1)"): "classes are rolled",
            ("return s * a + (1 - s) * b", "return a"): "nothing is mixed",
            ("(1 - s) * b", "b"): "1 - share",
            ("return s * a + (1 - s) * b", "return s * y + (1 - s) * y.roll(1)"): "class numbers",
            ("return s * a + (1 - s) * b", "return (s * a + (1 - s) * b).long()"): "int64|float32",
        },
    ),
    "place_share": (
        """
def answer(a):
    d = a - 1 / a.size(-1)
    top = (d.mean(0) ** 2).sum((-1, -2))
    low = (d ** 2).sum((-1, -2)).mean(0)
    return top / low
""",
        {
            ("a - 1 / a.size(-1)", "a"): "not taken off",
            ("(d.mean(0) ** 2)", "(d ** 2).mean(0)"): "always 1",
            ("low = (d ** 2).sum((-1, -2)).mean(0)", "low = (d ** 2).sum((-1, -2)).sum(0)"): "sum over the pictures",
            ("top / low", "low / top"): "upside",
            ("top / low", "1 - top / low"): "content",
            ("top / low", "(top / low).mean()"): "heads",
            ("a.size(-1)", "a.size(0)"): "pictures is taken",
        },
    ),
    "centre_of_light": (
        """
def answer(m, p):
    r = torch.arange(m.shape[1]) * p + (p - 1) / 2
    c = torch.arange(m.shape[2]) * p + (p - 1) / 2
    x = (m * c).sum((1, 2))
    y = (m * r[:, None]).sum((1, 2))
    return torch.stack([x, y], -1)
""",
        {
            ("[x, y]", "[y, x]"): "x and y",
            ("], -1)", "], 0)"): "another order",
            ("return torch.stack([x, y], -1)", "return x, y"): "tuple",
        },
    ),
    "without_head": (
        """
def answer(model, x, layer, head):
    msa = model.blocks[layer].msa
    d = msa.head_size
    def cut(mod, args):
        z = args[0].clone()
        z[..., head * d:(head + 1) * d] = 0
        return (z,)
    h = msa.out.register_forward_pre_hook(cut)
    with torch.no_grad():
        y = model(x)
    h.remove()
    return y
""",
        {
            ("    h.remove()\n", ""): "hook",
            ("z[..., head * d:(head + 1) * d] = 0", "z[..., head] = 0"): "one column",
            ("z[..., head * d:(head + 1) * d] = 0", "z[...] = 0"): "whole MSA",
            ("blocks[layer]", "blocks[1 - layer]"): "another layer",
            ("z[..., head * d:(head + 1) * d] = 0", "z[..., head::msa.num_heads] = 0"): "one in num_heads",
            ("z[..., head * d:(head + 1) * d] = 0", "pass"): "nothing is left out",
            ("head * d:(head + 1) * d", ":(head + 1) * d"): "up to this head",
        },
    ),
    "seeds_needed": (
        """
def answer(d, s):
    n = 1
    while d < 2 * s * (2 / n) ** 0.5:
        n += 1
    return n
""",
        {
            ("2 * s * (2", "s * (2"): "one standard error",
            ("(2 / n)", "(1 / n)"): "2 in sqrt",
            ("return n", "return 2 * n"): "both rows",
        },
    ),
    "shared_positions_encoder": (
        """
def answer(z, blocks, p):
    for b in blocks:
        z = z + p
        z = b(z)
    return z
""",
        {
            ("    for b in blocks:\n        z = z + p\n", "    z = z + p\n    for b in blocks:\n"): "first block alone",
            ("        z = z + p\n", ""): "not added",
            ("z = z + p", "z += p"): "in place",
            ("return z", "return z.detach()"): "gradient",
            ("z = b(z)", "z = z + b(z)"): "residual",
            ("        z = b(z)", "        z = blocks[0](z)"): "again and again",
            ("for b in blocks:", "while blocks:\n        b = blocks.pop(0)"): "length",
        },
    ),
    "tokens_at_half": (
        """
def answer(D, M):
    return (4 * D * D + 2 * D * M) / (2 * D)
""",
        {
            ("+ 2 * D * M", ""): "MLP is forgotten",
            ("4 * D * D + ", ""): "matrices of the MSA",
            ("+ 2 * D * M", "+ D * M"): "two matrices",
            ("/ (2 * D)", "/ D"): "T\\^2 D each",
            ("+ 2 * D * M", "+ 8 * D * D"): "4 D",
            ("/ (2 * D)", ""): "division by 2 D is missing",
            ("return ", "return 1 + "): "too many|1",
        },
    ),
    "grid_offsets": (
        """
def answer(s):
    n = torch.arange(s * s)
    r, c = n // s, n % s
    dr = r.view(-1, 1) - r.view(1, -1)
    dc = c.view(-1, 1) - c.view(1, -1)
    return (dr + s - 1) * (2 * s - 1) + dc + s - 1
""",
        {
            ("n // s, n % s", "n % s, n // s"): "rows and columns",
            ("(2 * s - 1)", "(2 * s)"): "2 s",
            ("(2 * s - 1)", "s"): "by s",
            (" + dc + s - 1", " + dc"): "row alone",
            ("(dr + s - 1)", "dr"): "column alone",
            ("(dr + s - 1) * (2 * s - 1) + dc + s - 1", "dr * (2 * s - 1) + dc"): "not added",
            ("return (", "return 1.0 * ("): "float32",
        },
    ),
    "least_squares_dual": (
        """
def answer(x, y, l):
    G = x.mm(x.t()) + l * torch.eye(x.shape[0])
    return x.t().mm(torch.inverse(G).mm(y))
""",
        {
            (" + l * torch.eye(x.shape[0])", ""): "no decay",
            ("l * torch.eye(x.shape[0])", "l"): "all numbers",
            ("l * torch.eye", "torch.eye"): "1 here",
            ("x.t().mm(torch.inverse(G).mm(y))", "torch.inverse(G).mm(y)"): "X\\^T is missing",
            ("torch.inverse(G).mm(y)", "y"): "inverse is missing",
            ("torch.inverse(G)", "G"): "multiplied",
            (
                "return x.t().mm(torch.inverse(G).mm(y))",
                "return x.t().mm(torch.inverse(G).mm(y)).t()",
            ): "transposed|another",
        },
    ),
    "resize_to_rectangle": (
        """
def answer(p, R, K):
    cls, rest = p.split([1, p.shape[1] - 1], 1)
    n = int(round(math.sqrt(rest.shape[1])))
    g = rest.reshape(1, n, n, -1).permute(0, 3, 1, 2)
    g = F.interpolate(g, (R, K), mode='bilinear', align_corners=True)
    g = g.permute(0, 2, 3, 1).reshape(1, R * K, -1)
    return torch.cat([cls, g], 1)
""",
        {
            (", align_corners=True", ""): "align_corners",
            ("bilinear", "bicubic"): "bicubic",
            ("mode='bilinear', align_corners=True", "mode='nearest'"): "nearest",
            ("[cls, g]", "[g, cls]"): "at the end",
            ("torch.cat([cls, g], 1)", "g"): "lost",
            ("rest.reshape(1, n, n, -1).permute(0, 3, 1, 2)", "rest.reshape(1, -1, n, n)"): "reshape",
            ("g.permute(0, 2, 3, 1)", "g.permute(0, 3, 2, 1)"): "column by column",
        },
    ),
    "gain": (
        """
def answer(a, b):
    d = a - b
    m = d.sum() / len(d)
    s = (((d - m) ** 2).sum() / (len(d) - 1)) ** 0.5
    return m, s / math.sqrt(len(d))
""",
        {
            ("s / math.sqrt(len(d))", "s"): "divide it by the root",
            ("s / math.sqrt(len(d))", "s / len(d)"): "by n, it must",
            ("(len(d) - 1)", "len(d)"): "n - 1",
            ("** 0.5\n", "** 1\n"): "variance",
            ("a - b", "b - a"): "wrong sign",
            ("return m, s / math.sqrt(len(d))", "return s / math.sqrt(len(d)), m"): "exchanged",
            ("return m, s / math.sqrt(len(d))", "return m"): "expected 2",
        },
    ),
    "standard_error": (
        """
def answer(p, n):
    return (p * (1 - p) / n) ** 0.5
""",
        {
            ("** 0.5", ""): "variance",
            ("(p * (1 - p) / n) ** 0.5", "(p * (1 - p)) ** 0.5 / n"): "by its root",
            (" / n", ""): "single image",
            ("(1 - p) ", "1 "): "1 - p is missing",
            ("return ", "return 2 * "): "twice",
            ("return ", "return 100 * "): "per cent",
            ("/ n)", "* n)"): "number of right",
        },
    ),
    "class_token_rollout": (
        """
def answer(A):
    L, B, H, T, _ = A.shape
    e = torch.zeros(B, T)
    e[:, 0] = 1
    for a in reversed(A):
        a = a.mean(1)
        e = 0.5 * e + 0.5 * torch.einsum('bt,bts->bs', e, a)
    return e
""",
        {
            ("reversed(A)", "A"): "wrong order",
            ("0.5 * e + 0.5 * ", "e + "): "halved",
            ("a.mean(1)", "a.amax(1)"): "largest",
            ("bt,bts->bs", "bs,bts->bt"): "transposed|column",
            ("e[:, 0]", "e[:, -1]"): "last row",
            ("reversed(A)", "A[:1]"): "first layer",
            ("return e", "return e[:, None]"): "size 1",
        },
    ),
    "ensemble": (
        """
def answer(p):
    return p.sum(0).max(-1).indices
""",
        {
            ("p.sum(0).max(-1).indices", "p.argmax(-1).mode(0).values"): "vote",
            ("p.sum(0)", "p[0]"): "first model",
            (".max(-1).indices", ""): "probabilities|float32",
            ("p.sum(0)", "p.prod(0)"): "multiplied",
            (".max(-1)", ".min(-1)"): "least",
            ("return p.sum(0).max(-1).indices", "return p.sum(0).max(-1).indices.float()"): "float32",
            ("p.sum(0)", "p.softmax(-1).sum(0)"): "softmax",
        },
    ),
    "patch_of_pixel": (
        """
def answer(r, c, H, W, p):
    per_row = W // p
    i, j = r // p, c // p
    return i * per_row + j
""",
        {
            ("W // p", "H // p"): "height",
            ("i * per_row + j", "j * per_row + i"): "exchanged",
            ("i * per_row + j", "i * per_row + j + 1"): "from 1",
            ("i, j = r // p, c // p", "i, j = r, c // p"): "row of the pixel",
            ("W // p", "W"): "divide the width",
            ("i * per_row + j", "j * (H // p) + i"): "column by column",
            ("return i * per_row + j", "return r * W + c"): "number of the pixel",
        },
    ),
    "drop_path": (
        """
def answer(x, rate, training):
    if not training or rate == 0:
        return x
    keep = 1 - rate
    m = torch.empty(x.shape[0], 1, 1).bernoulli_(keep)
    return x * m / keep
""",
        {
            ("x.shape[0], 1, 1", "*x.shape"): "single numbers",
            ("x.shape[0], 1, 1", "x.shape[0], x.shape[1], 1"): "tokens",
            ("x.shape[0], 1, 1", "1, 1, 1"): "share one",
            (" / keep", ""): "not scaled",
            ("bernoulli_(keep)", "bernoulli_(rate)"): "kept",
            ("/ keep", "* keep"): "1 - rate",
            ("/ keep", "/ rate"): "1 / rate",
        },
    ),
    "training_step": (
        """
def answer(model, x, y, opt):
    model.train()
    opt.zero_grad()
    out = model(x)
    loss = nn.CrossEntropyLoss()(out, y)
    loss.backward()
    opt.step()
    return loss.item()
""",
        {
            ("    opt.zero_grad()\n", ""): "not cleared",
            (
                "    loss.backward()\n    opt.step()",
                "    opt.step()\n    loss.backward()",
            ): "do not move|old gradient|of the batch before",
            ("    opt.step()\n", ""): "do not move",
            ("    loss.backward()\n", ""): "do not move|no backward",
            ("    opt.step()\n", "    opt.step()\n    opt.step()\n"): "two steps",
            ("    model.train()\n", ""): "evaluation mode",
            ("out, y)", "out.softmax(-1), y)"): "softmax",
        },
    ),
    "evaluate": (
        """
def answer(model, batches):
    model.eval()
    hits = total = 0
    with torch.no_grad():
        for x, y in batches:
            hits += (model(x).argmax(1) == y).sum()
            total += len(y)
    return (hits / total).item()
""",
        {
            ("    model.eval()\n", ""): "training mode",
            ("torch.no_grad()", "torch.enable_grad()"): "gradients are recorded",
            ("(hits / total).item()", "hits.item()"): "number of hits",
            ("total += len(y)", "total += 1"): "number of batches",
            ("total += len(y)", "total = len(batches) * len(batches[0][1])"): "as large as the first",
            ("(hits / total).item()", "1 - (hits / total).item()"): "wrong answers",
            ("(hits / total).item()", "100 * (hits / total).item()"): "per cent",
        },
    ),
    "decay_groups": (
        """
def answer(model, wd):
    a, b = [], []
    for m in model.modules():
        for n, p in m.named_parameters(recurse=False):
            (a if n == 'weight' and isinstance(m, (nn.Linear, nn.Conv2d)) else b).append(p)
    return [dict(params=a, weight_decay=wd), dict(params=b, weight_decay=0)]
""",
        {
            ("n == 'weight' and isinstance(m, (nn.Linear, nn.Conv2d))", "p.ndim > 1"): "class token and positions",
            ("n == 'weight' and isinstance(m, (nn.Linear, nn.Conv2d))", "n == 'weight'"): "LayerNorms decay",
            ("n == 'weight' and isinstance(m, (nn.Linear, nn.Conv2d))", "n != 'bias'"): "only biases",
            ("n == 'weight' and isinstance", "isinstance"): "biases decay",
            ("n == 'weight' and isinstance(m, (nn.Linear, nn.Conv2d))", "True"): "everything decays",
            ("n == 'weight' and isinstance(m, (nn.Linear, nn.Conv2d))", "False"): "nothing decays",
            (", dict(params=b, weight_decay=0)", ""): "missing",
        },
    ),
    "mean_distance": (
        """
def answer(A, R, K, p):
    n = torch.arange(R * K)
    xy = torch.stack([n // K, n % K], 1).float() * p
    D = torch.cdist(xy, xy)
    W = A[:, 1:, 1:]
    W = W / W.sum(-1, keepdim=True)
    return torch.einsum('hqk,qk->h', W, D) / (R * K)
""",
        {
            ("    W = W / W.sum(-1, keepdim=True)\n", ""): "not rescaled",
            (".float() * p", ".float()"): "in patches",
            ("n // K, n % K", "n // R, n % R"): "exchanged",
            ("torch.cdist(xy, xy)", "torch.cdist(xy, xy, p=1)"): "along rows",
            ("torch.cdist(xy, xy)", "torch.cdist(xy, xy) ** 2"): "root of the squares",
            (" / (R * K)", ""): "sum over the queries",
            ("A[:, 1:, 1:]", "A[:, 1:, 1:].mT"): "queries and keys",
        },
    ),
    "gradient_times_input": (
        """
def answer(t, g):
    return F.relu(torch.einsum('bnd,bnd->bn', g[:, 1:], t[:, 1:]))
""",
        {
            ("g[:, 1:], t[:, 1:]", "g, t"): "class token is still|came the shape",
            ("g[:, 1:],", "g[:, 1:].mean(1, keepdim=True).expand_as(g[:, 1:]),"): "that is Grad-CAM",
            ("g[:, 1:],", "g[:, :1].expand_as(g[:, 1:]),"): "used for all patches",
            ("F.relu(", "("): "negative",
            ("F.relu(", "torch.abs("): "absolute",
            ("g[:, 1:],", "g[:, 1:].relu(),"): "applied to the gradients",
            ("g[:, 1:],", "torch.ones_like(g[:, 1:]),"): "not used",
        },
    ),
    "replace_head": (
        """
def answer(model, K):
    head = nn.Linear(model.settings['hidden_size'], K)
    head.weight.data.zero_()
    head.bias.data.zero_()
    model.head = head
    return model
""",
        {
            ("    head.weight.data.zero_()\n    head.bias.data.zero_()\n", ""): "random weights",
            ("    head.bias.data.zero_()\n", ""): "bias is not|logits",
            ("return model", "return head"): "head alone",
            ("    model.head = head\n", ""): "left as it was",
            (
                "return model",
                "for p in model.blocks.parameters(): p.requires_grad = False\n    return model",
            ): "frozen|trained",
            ("return model", "return nn.Sequential(model, head)"): "old one|returned",
            ("return model", "model.initialize(); return model"): "below the head",
        },
    ),
    "make_transforms": (
        """
from torchvision.transforms import v2
def answer(s):
    end = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize((0.5,) * 3, (0.5,) * 3)]
    train = v2.Compose([v2.RandomCrop(s), v2.RandomHorizontalFlip()] + end)
    test = v2.Compose([v2.Resize(s), v2.CenterCrop(s)] + end)
    return train, test
""",
        {
            ("return train, test", "return train, train"): "augmented, too",
            ("return train, test", "return test, train"): "exchanged",
            ("return train, test", "return test, test"): "nothing is augmented",
            (
                "[v2.Resize(s), v2.CenterCrop(s)] + end",
                "[v2.Resize(s), v2.CenterCrop(s)] + end[:2]",
            ): "test pictures are not normalised",
            ("[v2.Resize(s), v2.CenterCrop(s)]", "[v2.Resize(s)]"): "test",
            ("[v2.Resize(s), v2.CenterCrop(s)]", "[v2.Resize(s), v2.RandomCrop(s)]"): "augmented|random",
            (
                "v2.Normalize((0.5,) * 3, (0.5,) * 3)",
                "v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))",
            ): "range|normalised",
        },
    ),
}
