"""The init of `run --init`: a static program of a kilobyte, made of init.c beside this file by scripts/build-init.

docker and podman want tini or catatonit on the host; this one is always there, and every container has its own
copy of it, so that none can change another's.
"""

from __future__ import annotations

from veloci.errors import Unsupported

_PROGRAMS = {  # zlib, base85
    "x86_64": (
        b"c-pO0;cFa46ra7^g)@oWjbM#nVN(`@U~{ftj2BaO;I7W$3W`@nObwgM1w)fN$j#~rw%NKV-sD*P+WJxa1M*3(Htn6JBt)&?2_gtu"
        b"M9Jbstrg`W^wu}KxAj_z_`!jlnfKoBx9|7f46~Bfk3|Flg(HHFB5tiC&9}9#-;LgafNuhD8j7Mm9~(oxL%VJLw95-uBn8WJKhn8="
        b"^xsF9h6vjw_7B%xBJh1jZCXzrL^MXck6VAF)n;04)VQR21ST=IiL)8DPuPtMV^Iwqf1aG#tB63X_LH*>I%Z8gYd&O^1#BL)%8{%o"
        b"S>--r4p`;rlo=%si4l7%-ufa_6|}WSwbehVq*<K=&(>)DeBm7Y^5P2D<h-d=@Wv!;GgXza>!~%AUTx4pY_$_~(nqU})LK*^&LaYk"
        b"j6ftw?;}$vjt~_Ak*cJkZ@0eTvc#=aw36Vg7-3h{26=dEZK!{BhYph|57g6pAXd=<?s6mw%GTL6oqaBX<aP&;c6*NwUOdg!+3nxW"
        b"1J)^&B+fH}xcZXkdF0F$-Us&e%O~*kCVo+Es7+`TegPlHS!k0pBN2N~)~k;bmQqGY^(l#LrxXdO9?L3mF7tkC;t21UaD;a(f_TSf"
        b"Mu<I$%+dOJ=#4ww@jR~0Kb76^R0#V@jOoszGIHqvn0SLb@rTd|sH8!dtFv95{X`t9NMg+A*Csf5I3#D-HV6>Uz5|Zh7)(0zbk@<?"
        b"Ut$d84%L?Y!>>vH*<_WW%Tks*f+S&vUwr)24*g9c>^rx4)AQ=<ARDuf-1opB)k*hVSh2moQhN&m^*NY`m~Oi^xHGx^p2~vst<g6|"
        b">os1war4g7Plf6)S-z}kC5|_y_?5A*diXNGv}&`r4g6L~K7+6=sQ2_CILTr90CBVy?1b0u<()Yiln=$(J6_LC_?574b#?>DoSAuI"
        b"+x)(oQsUwVpJBFRUt6JHrkn~_()t7n^r#INAh+*J4RYF7WPUmD3H%D4*-V(F<-}q!XDlX4vkQe}kA2JhC*W@a6DD*xDd)@ioJoz@"
        b"#k@Sf08^nz<@usnm>b~HoKfJ8*?bq52lql@fhJ{YoXnSGL(UbKmJE*OfTVo58}1V4i_0em5E?JNTB6I41&z~unWFLK;+#PZ^nZ*&"
        b"`1l!xZ&vs|u6OO%`)<bzckqY1zQ?*Ye~*GSu-`{_=l8CCchMETs}G`o&;K{WSFI!"
    ),
    "aarch64": (
        b"c-pO1O-x)>6h7}~a2$|=1w~Qk@neEb1J#sdBsIM8hqz#2$!uJ~V;C}6n92NLNNLhL6cZy|@T!T4N$ZS-L}p>yq@=-Un8s+-y6Mx@"
        b"Zc1jLXtmXZ#6%Iu^Sd*5_?ckh!b|R)bG~!VJwNww-|1JnyJShC;*#kqap@B2d07|uk+N+QU>?}%<RCR~>!96B-$R|k&$;bih;@85"
        b"K2S#geN_pXRmgmk=)JoNrL&5Z&M9(wSy9p}ikeo5SvdWNjM95^8F~e>9`t*XMD1MX#U>}S)@=Jxze?shXoWms+5W@Ve}cVAH2n+C"
        b"<mXQI9W=MbX>JSg9Hg&*DbsugR3iQPluGSCzeMJ*2UyR22kYT@4*reMeFU8YaT39RXNnwCop&kHT&JJRsN`EDZLI-x2C?r4pY}8n"
        b")uiClsY{V-68TapcvXrRoOgnMO^QgIuK=$}kraWi0{;g^yx?bQ$Rv%-Td1S+Gm7*9!<CpnLguwhHrJXr!S`|<;x-6f4zXtie@Aho"
        b"-`cR}iPY;-aKK{_9sO{#bIq%eZ$)_!y)8qJA4n(bnPmr?J-m-8+kW5eq|0iZ?^A}D-=YuhqjZ_)cSk8tvl`vwM&0_Kwr^`(pUWz)"
        b"L!!@9{BG`vyIRTT((IW;E;;a9<Dbv1qL060^S%?YbJ^4KT+*qp+x4{YmBag&F3}Z!2c1_al0!U6E$|6mJ9>txYyYH=%#5V3!xnYX"
        b"G_};4r;sy`$!9_qvydrgRtWgYMKYJqkf}-qJX^)AV2OQ$%q)f;^aKA5`MHVKGA^3mZ6jf`T4udo;>+=@n-=tg%<AFsVu;0c6Yu18"
        b"NrhS6z?Ux;a!_a|k1pWXoMdK|%5<tin({$Lj}GPQnyfXsp4a*^=;9{k1$e`EHD+G#<23QX3(%!b>F@5&iPzo+ob$OeJ8`vYW<A62"
        b"7xnS~A@%Fye`}aQ{M~S?wDt}9oKqf37thj=<CCz*%s;&BFVxjksQDbznDvM_>#U6VSLs={Y5Vrer2=+a<6nHt=i`kH+n3LOrq--1"
        b">1FBwvu<Ek7A3luz*(#H`a-gfq7uo~v&UZjewGrCFG1fn8jH3KhyBKITdaR5)Uiw67IzeRrXb>n8auSWSinCTH~NPI+Taj=LgBbJ"
        b"7#<A`xVYADggDS25Ox8;L!qH~hZZ+Z1Y(+@`NJb42Dj!09a^JM3&+85^n`2AyC$9NA$9C2slLLU$Lg@3*syJF*ZX%Ey9HQ_z?#J?"
        b"dkolF{;a-OIjwb_pHMF(RN3dcy;Mowa=`qIAa-)ow!398-pV8A%Pu%%=32TfY^XIBjK!m<m|Ek3u{gCx!vjX#pw>XJcQ9&<1n7TR"
        b"<>CuaeEW;vnM*=$QTN)Hh*T~7pA+&eRTs1%&y?6pCG;`D%R*)jUC@I3c8R}ppYxP`>MDNUn*Jqzas305`V2S"
    ),
}


def image(machine: str) -> bytes:
    """The init's ELF file for `machine` (os.uname().machine). Raises Unsupported for one we have no code for."""
    from base64 import b85decode
    from zlib import decompress

    if machine not in _PROGRAMS:
        raise Unsupported(f"there is no init for {machine}", where="--init", hint="leave out --init")
    return decompress(b85decode(_PROGRAMS[machine]))
